"""Mathematical equality of final answers: numbers at once, everything else by math-verify."""

from __future__ import annotations

import importlib.metadata
import logging
from typing import ClassVar

from pydantic import BaseModel

from premem.extras import check_packages
from premem.grading.latex import final_answer
from premem.grading.numbers import only_number
from premem.grading.verdicts import given
from premem.records import Grade


class Math(BaseModel, frozen=True, extra="forbid"):
    """Compares what `premem.grading.latex.final_answer` finds. Takes no options.

    `grade` may take unbounded time and memory: use it through premem.grading.pool.
    """

    name: ClassVar[str] = "math"
    unbounded: ClassVar[bool] = True

    def model_post_init(self, context: object, /) -> None:
        # Said before the first answer, many of which are graded without it.
        check_packages("math_verify", extra="math")

    @property
    def version(self) -> str:
        return f"1, math-verify {importlib.metadata.version('math-verify')}"

    def at_once(self, reference: str, answer: str) -> Grade | None:
        """The grade where no algebra is needed: numbers, equal texts, no answer. Linear in the length of the texts."""
        expected, found = final_answer(reference), final_answer(answer)
        if expected is None or found is None:
            return given("no_answer", found)
        if expected == found:
            return given("right", found)
        number, other = only_number(expected), only_number(found)
        if number is not None and other is not None:
            if number == other:
                return given("right", found)
            if _is_integer(number) and _is_integer(other):
                return given("wrong", found)
        return None  # 0.333333 and 1/3 may be equal enough

    def grade(self, reference: str, answer: str) -> Grade:
        easy = self.at_once(reference, answer)
        if easy is not None:
            return easy
        import math_verify

        found = final_answer(answer)
        # Its own time limits are signals, which fail in threads and do not stop a computation inside C.
        gold, target = (
            math_verify.parse(f"\\boxed{{{formula}}}", parsing_timeout=None)
            for formula in (final_answer(reference), found)
        )
        equal = math_verify.verify(gold, target, timeout_seconds=None)
        return given("right" if equal else "wrong", found)

    def prepare(self) -> None:
        """Load math-verify, its parser and sympy."""
        logging.getLogger("math_verify").setLevel(logging.CRITICAL)
        self.grade("\\boxed{\\frac{x}{2}+1}", "\\boxed{1+0.5x}")


def _is_integer(canonical: str) -> bool:
    return canonical.lstrip("-").isdigit()
