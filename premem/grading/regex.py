"""What a pattern of the user's own finds."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import BaseModel, Field, field_validator

from premem.grading.reading.searching import last_match
from premem.grading.reading.thoughts import names_thoughts, spoken
from premem.grading.verdicts import compare
from premem.records import Grade


class Regex(BaseModel, frozen=True, extra="forbid", strict=True):
    """Compares what the pattern's group holds in the last match, without white space at both ends.

    A reference in which the pattern finds nothing is taken for a final answer itself. The pattern does not see thoughts
    such as `<think>…</think>`, unless it names their tags.
    """

    name: ClassVar[str] = "regex"
    version: ClassVar[str] = "2"
    unbounded: ClassVar[bool] = True  # (a+)+$ takes years

    pattern: str = Field(min_length=1, max_length=10_000, description="A Python pattern with one group.")
    ignore_case: bool = Field(False, description="For the pattern, and for the comparison.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"no Python pattern: {error}") from None
        if groups != 1:
            raise ValueError(
                f"must have one group (…), which holds the final answer, not {groups}; write others as (?:…)"
            )
        return pattern

    def grade(self, reference: str, answer: str) -> Grade:
        expected = self._final(reference)
        return compare(self._tidy(reference) if expected is None else expected, self._final(answer))

    def _final(self, text: str) -> str | None:
        if not names_thoughts(self.pattern):
            text = spoken(text)
        match = last_match(re.compile(self.pattern, re.IGNORECASE if self.ignore_case else 0), text)
        return None if match is None else self._tidy(match[1] or "")

    def _tidy(self, text: str) -> str | None:
        text = text.strip()
        return (text.casefold() if self.ignore_case else text) or None
