"""Grading: the final answer out of a text, and whether it is the reference's.

A grader of your own is a class or function that takes its options as keywords and gives a `Grader`. Its package names
it under an entry point, and it is there as soon as the package is installed beside premem:

    [project.entry-points."premem.graders"]
    mine = "my_package.grading:MyGrader"

A reference is either a whole trace, whose final answer is found as in any other text, or a final answer by itself.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from pydantic import ValidationError

from premem.errors import GraderError
from premem.grading.authors import Authors
from premem.grading.choice import Choice
from premem.grading.exact import Exact
from premem.grading.gsm8k import Gsm8k
from premem.grading.math import Math
from premem.grading.regex import Regex
from premem.records import Grade
from premem.wire.bodies import GraderChoice

__all__ = ["ENTRY_POINTS", "Grader", "get_grader", "grader_names"]

ENTRY_POINTS = "premem.graders"


@runtime_checkable
class Grader(Protocol):
    """Says whether an answer's final answer is the reference's."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str:
        """Changes whenever a verdict may."""

    @property
    def unbounded(self) -> bool:
        """True: `grade` may take any time or memory, and is run in a process that can be killed."""

    def grade(self, reference: str, answer: str) -> Grade:
        """`no_answer` where either text holds no final answer; never raises because of what a text holds."""


@runtime_checkable
class Quick(Protocol):
    """What an unbounded grader may have besides: most answers need no process."""

    def at_once(self, reference: str, answer: str) -> Grade | None:
        """The grade, in time linear in the texts' length; None where it takes more than that."""


@runtime_checkable
class Prepared(Protocol):
    """What an unbounded grader may have besides: something slow to load, once, before the first answer."""

    def prepare(self) -> None: ...


_BUILT_IN: dict[str, Callable[..., Grader]] = {
    grader.name: grader for grader in (Gsm8k, Math, Exact, Choice, Regex, Authors)
}


def grader_names() -> list[str]:
    """Built in, and installed."""
    return sorted({*_BUILT_IN, *importlib.metadata.entry_points(group=ENTRY_POINTS).names})


def get_grader(choice: GraderChoice) -> Grader:
    """The grader with its options. Raises GraderError for a name or an option that does not exist."""
    make = _BUILT_IN.get(choice.name) or _installed(choice.name)
    try:
        grader = make(**choice.options)
    except ValidationError as error:
        raise GraderError(f"grader {choice.name!r}: {_options_at_fault(error)}{_known_options(make)}") from None
    except (TypeError, ValueError) as error:
        raise GraderError(f"grader {choice.name!r} does not take these options: {error}") from error
    if not isinstance(grader, Grader):
        raise GraderError(f"grader {choice.name!r}: {type(grader).__name__} lacks a part of premem.grading.Grader")
    return grader


def _installed(name: str) -> Callable[..., Grader]:
    found = importlib.metadata.entry_points(group=ENTRY_POINTS, name=name)
    if not found:
        raise GraderError(f"no grader is named {name!r}; there are {', '.join(grader_names())}")
    if len(found) > 1:
        places = ", ".join(sorted(point.value for point in found))
        raise GraderError(f"two installed packages have a grader named {name!r} ({places}): uninstall one of them")
    (point,) = found
    try:
        make: Any = point.load()
    except (ImportError, AttributeError) as error:
        raise GraderError(f"grader {name!r} cannot be loaded from {point.value}: {error}") from error
    if not callable(make):
        raise GraderError(f"grader {name!r}: {point.value} is no class or function that makes a grader")
    return make  # type: ignore[no-any-return]


def _options_at_fault(error: ValidationError) -> str:
    faults = []
    for fault in error.errors(include_url=False, include_context=False):
        option = ".".join(map(str, fault["loc"])) or "options"
        missing = {"extra_forbidden": "is no option of it", "missing": "is an option that it needs"}
        faults.append(f"{option} {missing.get(fault['type'], fault['msg'])}")
    return "; ".join(faults)


def _known_options(make: Callable[..., Grader]) -> str:
    known = ", ".join(getattr(make, "model_fields", {}))
    return f" (options: {known})" if known else " (it has no options)"
