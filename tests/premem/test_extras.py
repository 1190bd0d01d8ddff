"""What is not installed is named, with the extra that brings it."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from premem.errors import InputError, MissingExtra
from premem.extras import Extra, brought_by, check_installed, check_packages
from premem.grading import get_grader
from premem.wire.bodies import GraderChoice

HOUSE = Path(__file__).parents[2]
EXTRAS = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_an_import_that_fails_names_the_package_and_the_extra():
    told = r"no_such_package, which is not installed: pip install 'premem\[frames\]'"

    with pytest.raises(MissingExtra, match=told), brought_by("frames"):
        import no_such_package.part  # noqa: F401


def test_who_expects_an_import_error_or_bad_input_gets_either():
    for kind in (ImportError, InputError):
        with pytest.raises(kind):
            check_packages("no_such_package", extra="s3")


def test_a_service_and_a_worker_together_are_one_extra(monkeypatch):
    monkeypatch.setattr("premem.extras.find_spec", lambda name: None if name in {"uvicorn", "torch"} else object())

    with pytest.raises(MissingExtra, match=r"needs uvicorn, torch, not installed here: pip install 'premem\[local\]'"):
        check_installed("service", "worker")


def test_the_math_grader_says_before_the_first_answer_what_it_needs(monkeypatch):
    monkeypatch.setattr("premem.extras.find_spec", lambda name: None)

    with pytest.raises(MissingExtra, match=r"math_verify, which is not installed: pip install 'premem\[math\]'"):
        get_grader(GraderChoice(name="math"))


def test_extras_are_those_of_the_distribution():
    assert set(get_args(Extra)) == set(EXTRAS)


def test_every_extra_that_is_named_anywhere_exists():
    texts = [
        path
        for folder in ("premem", "service", "worker", "docs", "lab", "benchmarks")
        for path in (HOUSE / folder).rglob("*")
        if path.suffix in {".py", ".md", ".js"} and "reference.md" not in path.name
    ]
    named = {
        (path.relative_to(HOUSE).as_posix(), extra)
        for path in [*texts, HOUSE / "README.md", HOUSE / "CHANGELOG.md"]
        for extras in re.findall(r"premem\[([a-z0-9,]+)\]", path.read_text())
        for extra in extras.split(",")
    }

    assert {extra for _, extra in named} >= {"vllm", "worker", "datasets", "previews"}
    assert [(path, extra) for path, extra in sorted(named) if extra not in EXTRAS] == []
