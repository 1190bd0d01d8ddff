"""The letter of a multiple-choice answer."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import BaseModel, Field, field_validator

from premem.grading.reading.announcements import announced
from premem.grading.reading.boxes import boxed_answer
from premem.grading.reading.characters import plain
from premem.grading.reading.letters import Places, places_of
from premem.grading.reading.thoughts import spoken, tagged
from premem.grading.verdicts import compare
from premem.records import Grade

_ANNOUNCED_WITHIN = 300
"""Characters behind "the answer is" that are read."""


class Choice(BaseModel, frozen=True, extra="forbid", strict=True):
    """Compares letters, found in the first of these places that holds one.

    After the last `####`; in the last `\\boxed{}`; after the last "the answer is" or "answer:", in any of some thirty
    languages; in a sentence that chooses, as "C is correct" or "I pick C"; at the very beginning, as in "B. 4"; in the
    last line by itself; in the last parentheses, as `(B)` or `B)`; at the very end, as in "so it is B."

    A letter with others beside it, as "A and C", is all of them, and is right only where the reference has the same.
    A lower-case letter counts where it cannot be the article "a"; neither do "A" and "I" where they are words.
    """

    name: ClassVar[str] = "choice"
    version: ClassVar[str] = "2"
    unbounded: ClassVar[bool] = False

    letters: str = Field("ABCDE", min_length=2, max_length=26, description="Those that can be chosen, in upper case.")

    @field_validator("letters")
    @classmethod
    def _are_letters(cls, letters: str) -> str:
        if not re.fullmatch("[A-Z]+", letters) or len(set(letters)) < len(letters):
            raise ValueError('must be different upper-case letters of the Latin alphabet, such as "ABCD"')
        return letters

    def grade(self, reference: str, answer: str) -> Grade:
        expected = self._expected(reference)
        return compare(expected, expected if answer == reference else self._final(answer))

    def _expected(self, reference: str) -> str | None:
        """A reference in one line begins with its letter: "B. Vitamin C"."""
        places = places_of(self.letters)
        line = plain(reference).strip()
        if "\n" not in line and "answer" not in line.lower():
            found = places.listed(line) or places.beginning(line)
            if found is not None:
                return found
        return self._final(reference)

    def _final(self, text: str) -> str | None:
        places = places_of(self.letters)
        text = plain(spoken(text))
        if (held := tagged(text)) is not None:
            text = held
        _, mark, tail = text.rpartition("####")
        for marked in (tail if mark else None, boxed_answer(text)):
            if marked is not None and (found := places.leading(marked)) is not None:
                return found
        for start, _ in reversed(announced(text, choices=True)):
            if (found := places.announced(text[start : start + _ANNOUNCED_WITHIN])) is not None:
                return found
        return _unannounced(places, text)


def _unannounced(places: Places, text: str) -> str | None:
    whole = text.strip()
    last_line = whole.rpartition("\n")[2]
    return (
        places.listed(whole)
        or places.chosen(text)
        or places.beginning(whole)
        or places.alone(last_line, with_text=last_line != whole)
        or places.parenthesized(text)
        or places.closing(text)
    )
