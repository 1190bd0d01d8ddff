"""The whole text, or what follows a mark, compared character by character."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, Field

from premem.grading.reading.thoughts import names_thoughts, spoken, tagged
from premem.grading.verdicts import compare
from premem.records import Grade


class Exact(BaseModel, frozen=True, extra="forbid", strict=True):
    """Right where the two texts are the same. An empty text is no answer.

    Thoughts before an answer are no part of it, and neither are `<answer>` tags around it, unless `after` names them.
    """

    name: ClassVar[str] = "exact"
    version: ClassVar[str] = "2"
    unbounded: ClassVar[bool] = False

    ignore_case: bool = False
    strip: bool = Field(True, description="Drop white space at both ends.")
    collapse_spaces: bool = Field(False, description="Take every run of white space for one space.")
    after: str | None = Field(
        None,
        min_length=1,
        description="The final answer follows the last of these marks; a reference without one is a final answer itself.",
    )

    def grade(self, reference: str, answer: str) -> Grade:
        expected = self._final(reference)
        return compare(self._tidy(reference) if expected is None else expected, self._final(answer))

    def _final(self, text: str) -> str | None:
        if self.after is None or not names_thoughts(self.after):
            text = spoken(text)
        if self.after is None:
            text = tagged(text) or text
        if self.after is not None:
            _, mark, text = text.rpartition(self.after)
            if not mark:
                return None
        return self._tidy(text)

    def _tidy(self, text: str) -> str | None:
        if self.collapse_spaces:
            text = " ".join(text.split())
        if self.strip:
            text = text.strip()
        return (text.casefold() if self.ignore_case else text) or None
