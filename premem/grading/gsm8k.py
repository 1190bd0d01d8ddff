"""The number that a text ends in: after the last `####`, as GSM8K's traces end, or where else it states its answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import ClassVar

from pydantic import BaseModel

from premem.grading.conventions import Percent, Rounding, Units, equal_numbers, shares
from premem.grading.reading.announcements import MARK, announced
from premem.grading.reading.boxes import boxed_answer
from premem.grading.reading.characters import plain
from premem.grading.reading.numbers import fraction_of, last_number_and_place
from premem.grading.reading.quantities import Quantity, same_time, stated
from premem.grading.reading.scales import scaled
from premem.grading.reading.thoughts import spoken, tagged
from premem.grading.reading.words import number_in_words
from premem.grading.verdicts import given
from premem.records import Grade

_LONGEST_REMEMBERED = 20_000
_PLAIN_NUMBER = re.compile(r"[ \t]*\$?(-?)([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,300})\s*\Z")
_HEADING = re.compile(
    r"\W*(?:step|part|case|method|approach|problem|question|section|example|day|\d{1,2}[.)]\s+[A-Za-z])\b", re.I
)
_MATH = re.compile(
    r"\\\((?P<round>[^\n]+?)\\\)|\\\[(?P<square>.+?)\\\]|\$(?P<dollars>[^$\n]*[\\^][^$\n]*)\$", re.DOTALL
)
_BOLD = re.compile(r"\*\*([^*\n]{1,60})\*\*")
_FEW_WORDS = re.compile(r"(?:[^\W\d_]+\W+){0,3}\W{0,3}[0-9][^A-Za-z]*(?:[^\W\d_]+\W*){0,4}")
_ENDS = re.compile(
    r"[.!]?\s*\Z|[ ,;](?=[a-su-z])(?!bi?l|mi|la?k|cr|hu|mr|ml)"
)  # no scale word, such as thousand, follows
_COMPOUND = re.compile(r"\\sqrt|√|\\pi|π|[0-9]:[0-9]|[0-9)}]\^\{?[0-9]")
_LONGEST_LINE = 1000
"""Characters before and behind the last number in which its formula is looked for."""
_BEFORE = 40
"""Characters that may stand between "the answer is" and its number."""


class Gsm8k(BaseModel, frozen=True, extra="forbid", strict=True):
    """Compares numbers exactly, however they are written.

    `1,080`, `$1080.00`, `1080 dollars.` and `1.08e3` are one number, and so are `1/2`, `.5` and `\\frac{1}{2}`. A time,
    a ratio, a range, a date, a list or an expression is read whole.
    """

    name: ClassVar[str] = "gsm8k"
    version: ClassVar[str] = "2"
    unbounded: ClassVar[bool] = False

    percent: Percent = "unit"
    units: Units = "ignored"
    rounding: Rounding = None

    def grade(self, reference: str, answer: str) -> Grade:
        # A reference comes back with every one of its sampled answers.
        remembered = len(reference) <= _LONGEST_REMEMBERED
        expected = _remembered_quantity(reference) if remembered else final_quantity(reference)
        # An upload grades every reference against itself.
        found = expected if answer == reference else final_quantity(answer)
        if expected is None or found is None:
            return given("no_answer", found and found.value)
        return given("right" if self._equal(expected, found) else "wrong", found.value)

    def _equal(self, expected: Quantity, found: Quantity) -> bool:
        if self.units == "compared" and not _same_unit(expected.unit, found.unit):
            return False
        if expected.value == found.value:
            if {expected.unit, found.unit} == {"am", "pm"}:
                return False
            return self.percent != "share" or (expected.unit == "%") == (found.unit == "%")
        if same_time(expected, found):
            return True
        if " to " in expected.value or " to " in found.value:
            return any(expected.value.replace(" to ", sign) == found.value.replace(" to ", sign) for sign in ":-")
        if self.rounding is None and expected.unit != "%" and found.unit != "%":
            return False
        return self._equal_numbers(expected, found)

    def _equal_numbers(self, expected: Quantity, found: Quantity) -> bool:
        readings = []
        for quantity in (expected, found):
            value = fraction_of(quantity.value) if _NUMBER.fullmatch(quantity.value) else None
            if value is None:
                return False
            readings.append(shares(value, is_percent=quantity.unit == "%", percent=self.percent))
        return any(equal_numbers(one, other, self.rounding) for one in readings[0] for other in readings[1])


_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+|/[0-9]+)?")


def _same_unit(one: str, other: str) -> bool:
    return not one or not other or one == other


def final_number(text: str) -> str | None:
    """Canonical. Of `#### 4 * 18 = 72`, what follows the equals sign."""
    found = final_quantity(text)
    return found and found.value


def final_quantity(text: str) -> Quantity | None:
    """After the last `####`; else in the last box; else after the last "the answer is"; else the last number."""
    text = spoken(text)
    mark = text.rfind(MARK)
    if mark >= 0 and (simple := _PLAIN_NUMBER.match(text, mark + len(MARK))):
        digits = simple[2].replace(",", "").lstrip("0") or "0"
        return Quantity(f"-{digits}" if simple[1] and digits != "0" else digits)
    text = plain(text)
    if (held := tagged(text)) is not None:
        text = held
        mark = text.rfind(MARK)
        if "\n" not in held and mark < 0 and "\\boxed" not in held and not announced(held):
            return stated(held) or number_in_words(held)
    if mark >= 0:
        mark = text.rfind(MARK)
        tail = text[mark + len(MARK) :].lstrip("#").strip()
        if tail and not _HEADING.match(tail):
            return _marked(tail)
        if not tail:
            text = text[:mark]
    return _unmarked(text)


_remembered_quantity = lru_cache(maxsize=4096)(final_quantity)


def _marked(tail: str) -> Quantity | None:
    """What follows a mark: the number on its line, or below a heading without one."""
    line, _, rest = tail.partition("\n")
    found = stated(line) or number_in_words(line)
    if found is not None or not rest.strip():
        return found
    return _boxed(rest) or _announced(rest) or next(filter(None, map(stated, rest.splitlines())), None)


def _unmarked(text: str) -> Quantity | None:
    return _boxed(text) or _announced(text) or _bold(text) or _last(text)


def _boxed(text: str) -> Quantity | None:
    if "\\boxed" not in text and "\\fbox" not in text:
        return None
    held = boxed_answer(text)
    return None if held is None else stated(held) or number_in_words(held)


def _announced(text: str) -> Quantity | None:
    for line, is_colon in _announced_lines(text):
        digit = re.search("[0-9]|π|sqrt", line)
        if digit is None:
            if (words := number_in_words(line)) is not None:
                return words
            continue
        if digit.start() <= (_BEFORE // 2 if is_colon else _BEFORE) and (found := stated(line)) is not None:
            return found
    return None


def _announced_lines(text: str) -> Iterator[tuple[str, bool]]:
    """What follows "the answer is", the last one first; where nothing follows on its line, the next line."""
    for start, is_colon in reversed(announced(text)):
        rest = text[start : start + 1000]
        stripped = rest.lstrip(" \t*_:.")
        if stripped.startswith("\n"):
            stripped = stripped.lstrip(" \t\n*_")
        line = stripped.partition("\n")[0]
        # "Answer: 16 - 3 = 13 eggs are left. 13 * 2 = 26." is working that only begins with a label.
        if not (is_colon and line.count("=") > 1 and re.search(r"=[^=]*[.;]\s[^=]*=", line)):
            yield line, is_colon


def _bold(text: str) -> Quantity | None:
    """The last bold number of the last line."""
    if "**" not in text:
        return None
    last_line = text.rstrip().rpartition("\n")[2][-_LONGEST_LINE:]
    for bold in reversed(_BOLD.findall(last_line)):
        if _FEW_WORDS.fullmatch(bold.strip()) and (found := stated(bold)) is not None:
            return found
    return None


def _last(text: str) -> Quantity | None:
    last = last_number_and_place(text)
    if last is None:
        return None
    value, start, end = last
    if _ENDS.match(text, end) and text[start - 1 : start] in (" ", "$", "\n") and "\\" not in text:
        return Quantity(value)
    line_start = text.rfind("\n", 0, start) + 1
    line_start = max(line_start, start - _LONGEST_LINE)
    for formula in _MATH.finditer(text, line_start, end + _LONGEST_LINE) if "\\" in text or "$" in text else ():
        if formula.start() <= start < formula.end() and (found := stated(next(filter(None, formula.groups())))):
            return found
    before, after = (
        re.search(r"\S*\Z", text[max(line_start, start - 100) : start]),
        re.match(r"\S*", text[end : end + 100]),
    )
    word = (before[0] if before else "") + text[start:end] + (after[0] if after else "")
    if (
        _COMPOUND.search(word)
        and (found := stated(word + text[end + len(after[0]) :][:5] if after else word)) is not None
    ):
        return found
    bigger = scaled(text, end, value)
    percent = text[end : end + 2].lstrip(" \\").startswith("%")
    return Quantity(bigger[0] if bigger else value, "%" if percent else "")
