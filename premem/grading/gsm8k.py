"""The number after the last `####`, as GSM8K's traces end; where no number follows one, the last number in the text."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

from pydantic import BaseModel

from premem.grading.numbers import first_number, last_number
from premem.grading.verdicts import compare
from premem.records import Grade

MARK = "####"
_LONGEST_REMEMBERED = 20_000


class Gsm8k(BaseModel, frozen=True, extra="forbid"):
    """Compares numbers exactly, however they are written.

    `1,080`, `$1080.00`, `1080 dollars.` and `1.08e3` are one number, and so are `1/2`, `.5` and `\\frac{1}{2}`.
    A percent sign counts as a unit. Takes no options.
    """

    name: ClassVar[str] = "gsm8k"
    version: ClassVar[str] = "1"
    unbounded: ClassVar[bool] = False

    def grade(self, reference: str, answer: str) -> Grade:
        # A reference comes back with every one of its sampled answers.
        remembered = len(reference) <= _LONGEST_REMEMBERED
        expected = _remembered_number(reference) if remembered else final_number(reference)
        # An upload grades every reference against itself.
        return compare(expected, expected if answer == reference else final_number(answer))


def final_number(text: str) -> str | None:
    """Canonical. Of `#### 4 * 18 = 72`, what follows the equals sign."""
    mark = text.rfind(MARK)
    if mark >= 0:
        tail = text[mark + len(MARK) :].lstrip()
        line = tail.partition("\n")[0]
        _, equals, result = line.rpartition("=")
        number = (first_number(result) if equals else None) or first_number(tail)
        if number is not None:
            return number
    return last_number(text)


_remembered_number = lru_cache(maxsize=4096)(final_number)
