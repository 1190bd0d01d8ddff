"""The letter of a multiple-choice answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from pydantic import BaseModel, Field, field_validator

from premem.grading.latex import last_boxed
from premem.grading.searching import last_match
from premem.grading.verdicts import compare
from premem.records import Grade


class Choice(BaseModel, frozen=True, extra="forbid", strict=True):
    """Compares letters, found in the first of these places that holds one.

    After the last `####`; in the last `\\boxed{}`; after the last "answer is", "answer:", "option" or "choice"; in
    the last parentheses, as `(B)` or `B)`; at the very end, as in "so it is B."; the whole text. A lower-case letter
    counts where it cannot be the article "a".
    """

    name: ClassVar[str] = "choice"
    version: ClassVar[str] = "1"
    unbounded: ClassVar[bool] = False

    letters: str = Field("ABCDE", min_length=2, max_length=26, description="Those that can be chosen, in upper case.")

    @field_validator("letters")
    @classmethod
    def _are_letters(cls, letters: str) -> str:
        if not re.fullmatch("[A-Z]+", letters) or len(set(letters)) < len(letters):
            raise ValueError('must be different upper-case letters of the Latin alphabet, such as "ABCD"')
        return letters

    def grade(self, reference: str, answer: str) -> Grade:
        return compare(self._final(reference), self._final(answer))

    def _final(self, text: str) -> str | None:
        places = _places(self.letters)
        _, mark, tail = text.rpartition("####")
        for marked in (tail if mark else None, last_boxed(text)):
            if marked is not None and (match := places.leading.match(marked)):
                return match[1].upper()
        for pattern in (places.announced, places.parenthesized, places.closing):
            if match := last_match(pattern, text):
                return match[1].upper()
        whole = text.strip()
        return whole.upper() if len(whole) == 1 and whole.upper() in self.letters else None


@dataclass(frozen=True, slots=True)
class _Places:
    leading: re.Pattern[str]
    announced: re.Pattern[str]
    parenthesized: re.Pattern[str]
    closing: re.Pattern[str]


@lru_cache(maxsize=32)
def _places(letters: str) -> _Places:
    either, upper, lower = f"[{letters}{letters.lower()}]", f"[{letters}]", f"[{letters.lower()}]"
    dressed = r"[\s*_(\[{$\"'“]{0,20}"  # bounded, or a run of white space would be read again from each of its places
    wrapped = r"(?:\\(?:text|textbf|mathrm|mathbf)[{])?\(?"
    announcing = r"(?i:\banswer(?:\s{1,5}is|\s{0,5}[:=])|\b(?:option|choice)\b(?:\s{1,5}is\b)?):?"
    return _Places(
        leading=re.compile(rf"{dressed}{wrapped}({either})(?![\w'’])"),
        announced=re.compile(rf"{announcing}{dressed}{wrapped}({upper}(?![\w'’])|{lower}(?=[).:\]}}]|\s{{0,20}}\Z))"),
        parenthesized=re.compile(rf"(?:(?<!\w)\(|(?<![\w(]))({either})\)"),
        closing=re.compile(rf"(?<![\w'’])({upper})[\s.)\]}}*_$!\"'”]{{0,20}}\Z"),
    )
