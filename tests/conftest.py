"""What holds for every test, and an option of pytest itself."""

import logging
from collections.abc import Iterator

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--installed",
        action="store_true",
        help="also build the three wheels, install them into an environment of their own and score with them: needs uv "
        "and a package index, and takes minutes",
    )


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A program that a test runs in this process configures the root logger; the next test's output is not its own then."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
