"""What is asked of pytest itself."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--installed",
        action="store_true",
        help="also build the three wheels, install them into an environment of their own and score with them: needs uv "
        "and a package index, and takes minutes",
    )
