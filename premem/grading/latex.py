"""The final answer in a text with LaTeX, as the solutions of MATH have it."""

from __future__ import annotations

import re

from premem.grading.boxes import boxes
from premem.grading.gsm8k import MARK
from premem.grading.searching import last_match

_BRACES = re.compile(r"\\(?:boxed|fbox)\s?(?P<opens>\{)|\\boxed\s(?P<bare>[^\s{}$\\]+)|\\.|[{}]", re.DOTALL)
_ANNOUNCED = re.compile(r"(?i)\banswer[ \t]{0,4}(?:is|:|=)[ \t]{0,4}:?")
_INLINE = re.compile(r"\$([^$\n]+)\$")
_COMMANDS = re.compile(r"\\(?:text|mbox|mathrm|textbf)\s?\{[^{}]*\}|\\[A-Za-z]+")
_PROSE = re.compile(r"(?:[A-Za-z]{2,30}[ ,]{1,3}){2}[A-Za-z]{2,30}")
_LONGEST_BARE = 1000


def last_boxed(text: str) -> str | None:
    """What the last `\\boxed{}` or `\\fbox{}` holds whose braces are balanced. Linear in the length of the text."""
    found = boxes(text)
    return found[-1].held if found else None


def final_answer(text: str) -> str | None:
    """In the last `\\boxed{}`; else after the last `####`; else after the last "answer is" or "answer:".

    Else a text of one line that is no prose is a final answer itself. Otherwise there is none: the last formula of
    a solution that was cut short is not its answer.
    """
    found = last_boxed(text)
    if found is None:
        found = _marked(text)
    if found is None:
        found = _bare(text)
    return tidy(found) or None if found is not None else None


def tidy(formula: str) -> str:
    """Without what changes only its looks."""
    formula = formula.strip()
    if len(formula) > 2 and formula.startswith("$") and formula.endswith("$"):
        formula = formula.strip("$").strip()
    formula = formula.removesuffix(".").rstrip()
    for looks in ("\\!", "\\left", "\\right", "\\displaystyle"):
        # \leftarrow is a sign of its own, and no final answer ends in one.
        if looks in formula and f"{looks}arrow" not in formula:
            formula = formula.replace(looks, "")
    return formula.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").strip()


def _marked(text: str) -> str | None:
    _, mark, tail = text.rpartition(MARK)
    if mark:
        return tail.strip().partition("\n")[0] or None
    announced = last_match(_ANNOUNCED, text)
    if announced is None:
        return None
    line = text[announced.end() :].lstrip().partition("\n")[0]
    if inline := _INLINE.search(line):
        return inline[1]
    _, opening, formula = line.partition("\\(")
    if opening:
        return formula.partition("\\)")[0]
    return re.split(r"\.(?:\s|$)", line, maxsplit=1)[0] or None


def _bare(text: str) -> str | None:
    text = text.strip()
    if "\n" in text or len(text) > _LONGEST_BARE or _PROSE.search(_COMMANDS.sub(" ", text)):
        return None
    return text
