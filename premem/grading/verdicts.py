"""From two final answers to a grade."""

from __future__ import annotations

from premem.records import Grade, Verdict

LONGEST_SHOWN = 1000
"""Characters of a final answer that are kept beside its verdict. Longer ones are compared whole."""


def compare(expected: str | None, found: str | None) -> Grade:
    """Right where the two final answers are the same text; None stands for a text without one.

    A reference without a final answer never makes an answer right: the verdict is `no_answer`.
    """
    if expected is None or found is None:
        return given("no_answer", found)
    return given("right" if expected == found else "wrong", found)


def given(verdict: Verdict, found: str | None) -> Grade:
    if found is not None and len(found) > LONGEST_SHOWN:
        found = found[: LONGEST_SHOWN - 1] + "…"
    return Grade(verdict, found)
