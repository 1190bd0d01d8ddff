"""Mathematical equality of final answers: numbers at once, everything else by math-verify."""

from __future__ import annotations

import importlib.metadata
import logging
import re
from typing import ClassVar

from pydantic import BaseModel

from premem.extras import check_packages
from premem.grading.algebra import equal
from premem.grading.conventions import Percent, Rounding, Units
from premem.grading.reading.boxes import boxes
from premem.grading.reading.formulas import normal
from premem.grading.reading.latex import all_boxed, final_answer
from premem.grading.reading.numbers import only_number
from premem.grading.verdicts import given
from premem.records import Grade

_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_IN_WORDS = re.compile(r"[^\W\d_]{3,}(?:[ -][^\W\d_]+)*")
_UNIT = re.compile(
    r"(?<=[0-9}\s])(?:\\[,; ]|\s)*(?:\\(?:text|mathrm)\s*\{\s*([^{}]*?)\s*\}|([A-Za-zµΩ°]{1,12}))\s*(\^\s*\{?\s*[0-9]\s*\}?)?\s*\Z"
)


class Math(BaseModel, frozen=True, extra="forbid", strict=True):
    """Compares what `premem.grading.reading.latex.final_answer` finds.

    `grade` may take unbounded time and memory: use it through premem.grading.pool.
    """

    name: ClassVar[str] = "math"
    unbounded: ClassVar[bool] = True

    percent: Percent = "either"
    units: Units = "ignored"
    rounding: Rounding = None

    def model_post_init(self, context: object, /) -> None:
        # Said before the first answer, many of which are graded without it.
        check_packages("math_verify", extra="math")

    @property
    def version(self) -> str:
        return f"2, math-verify {importlib.metadata.version('math-verify')}"

    def at_once(self, reference: str, answer: str) -> Grade | None:
        """The grade where no algebra is needed: numbers, equal texts, no answer. Linear in the length of the texts."""
        expected, found = _expected(reference), final_answer(answer)
        if expected is None or found is None:
            return given("no_answer", found)
        if expected == found or reference == answer or (_words(expected) or "") == _words(found):
            return given("right", found)
        number, other = only_number(expected), only_number(found)
        if number is not None and other is not None:
            if number == other:
                return given("right", found)
            if _is_integer(number) and _is_integer(other) and len(boxes(answer)) < 2:
                return given("wrong", found)
        return None  # 0.333333 and 1/3 may be equal enough

    def grade(self, reference: str, answer: str) -> Grade:
        easy = self.at_once(reference, answer)
        if easy is not None:
            return easy
        expected, found = _expected(reference) or "", final_answer(answer) or ""
        right = self._equal(expected, found)
        if not right and (every := all_boxed(answer)) is not None and every != found:
            right = self._equal(expected, every)  # the parts of one answer, in boxes far from each other
        return given("right" if right else "wrong", found)

    def prepare(self) -> None:
        """Load math-verify, its parser and sympy."""
        logging.getLogger("math_verify").setLevel(logging.CRITICAL)
        self.grade("\\boxed{\\frac{x}{2}+1}", "\\boxed{1+0.5x}")

    def _equal(self, expected: str, found: str) -> bool:
        expected, found = normal(expected), normal(found)
        if self.units == "compared":
            units = _unit(expected), _unit(found)
            if all(units) and units[0] != units[1]:
                return False
        if self.percent != "either":
            as_share = self.percent == "share"
            expected, found = (_percent(formula, as_share=as_share) for formula in (expected, found))
        return equal(expected, found, rounding=self.rounding)


def _expected(reference: str) -> str | None:
    """A solution is no place for corrections: all of its boxes are its answer."""
    return all_boxed(reference) or final_answer(reference)


def _words(formula: str) -> str | None:
    """Of an answer in words, in lower case. None: it is something else, and one letter may be a variable."""
    text = _TEXT.sub(r"\1", formula).strip()
    return " ".join(text.lower().split()) if _IN_WORDS.fullmatch(text) else None


def _percent(formula: str, *, as_share: bool) -> str:
    return re.sub(r"([0-9.]+)\s*\\%", r"\\frac{\1}{100}" if as_share else r"\1", formula)


def _unit(formula: str) -> str:
    """What stands behind the last number, in lower case: "cm". Empty: nothing does."""
    match = _UNIT.search(formula)
    if match is None:
        return ""
    unit = (match[1] or match[2] or "").strip().lower()
    unit = unit[:-1] if len(unit) > 2 and unit.endswith("s") else unit
    return unit + re.sub("[^0-9]", "", match[3] or "")


def _is_integer(canonical: str) -> bool:
    return canonical.lstrip("-").isdigit()
