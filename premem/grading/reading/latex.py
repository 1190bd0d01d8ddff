"""The final answer in a text with LaTeX, as the solutions of MATH have it."""

from __future__ import annotations

import re

from premem.grading.reading.announcements import MARK, announced
from premem.grading.reading.boxes import Box, boxed_answer, boxes
from premem.grading.reading.characters import plain
from premem.grading.reading.thoughts import spoken, tagged

_COMMANDS = re.compile(r"\\(?:text|mbox|mathrm|textbf)\s?\{[^{}]*\}|\\[A-Za-z]+")
_PROSE = re.compile(r"(?:[A-Za-z]{2,30}[ ,]{1,3}){2}[A-Za-z]{2,30}")
_LONGEST_BARE = 1000
_LONGEST_LINE = 4000
"""Characters of a line in which an answer is looked for."""
_FORMULA = re.compile(
    r"\$\$(?P<display>[^$]+)\$\$|(?<!\\)\$(?P<dollars>(?:\\.|[^$\n\\])+)\$|\\\((?P<round>.+?)\\\)|\\\[(?P<square>.+?)\\\]",
    re.DOTALL,
)
_BETWEEN = re.compile(r"[\s,;:.*]*(?:and|or|und|oder|et|ou|y|o|和|或)?[\s,:*]*")
_REMARK = re.compile(
    r"[.!?](?:\s|$)|,?\s+(?:because|since|which|where|when|so|as|for|with|by|after|if|but|not|in)\s"
    r"|\s\((?=[A-Za-z]{2,})|,\s+(?!(?:and|or)\s)(?=[^\W\d_]{3,})|\s[—–]\s|<br|\s\|\s|(?<=[0-9)}a-z])\s*(?=[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af])"
)
_CONCLUDES = re.compile(
    r"(?:so|therefore|thus|hence|finally|in total|in all|altogether|consequently|we get|this gives|所以|因此|故|综上|于是"
    r"|also|somit|donc|ainsi|por lo tanto|entonces|logo|portanto|quindi|итак|значит|следовательно)(?![^\W\d_]*[a-z])",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"(?:\s|[*_:]|\bthat\b|\b(?:simply|therefore|thus|then|exactly|given by|equal to|just)\b)*", re.IGNORECASE
)


def last_boxed(text: str) -> str | None:
    """What the last `\\boxed{}` or `\\fbox{}` holds whose braces are balanced. Linear in the length of the text."""
    found = boxes(text)
    return found[-1].held if found else None


def final_answer(text: str) -> str | None:
    """In the last box, or boxes; else after the last `####`; else after the last "the answer is".

    Else a text of one line that is no prose is a final answer itself, and so is the formula of a last line that
    concludes ("Therefore, …"). Otherwise there is none: the last formula of a solution that was cut short is not its
    answer. What stands in thoughts is none either.
    """
    found = _found(plain(spoken(text)))
    return tidy(found) or None if found is not None else None


def all_boxed(text: str) -> str | None:
    """All different boxes of a text, with commas; None where fewer than two differ."""
    held = dict.fromkeys(tidy(box.held) for box in _outermost(plain(spoken(text))))
    return ", ".join(held) if len(held) > 1 else None


def tidy(formula: str) -> str:
    """Without what changes only its looks."""
    formula = formula.strip().strip("*").strip()
    if len(formula) > 2 and formula.startswith("$") and formula.endswith("$"):
        formula = formula.strip("$").strip()
    if formula.startswith(("\\(", "\\[")) and formula.endswith(("\\)", "\\]")):
        formula = formula[2:-2].strip()
    formula = formula.rstrip(",;")
    if not formula.endswith(".."):
        formula = formula.removesuffix(".").rstrip()
    formula = re.sub(r",\s*\\!\s*(?=[0-9]{3})", ",", formula)
    for looks in ("\\!", "\\left", "\\right", "\\displaystyle"):
        # \leftarrow is a sign of its own, and no final answer ends in one.
        if looks in formula and f"{looks}arrow" not in formula:
            formula = formula.replace(looks, "")
    return formula.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\cfrac", "\\frac").strip()


def _outermost(text: str) -> list[Box]:
    outermost: list[Box] = []
    for box in reversed(boxes(text)):  # a box ends before the one that it stands in
        if not outermost or box.end <= outermost[-1].start:
            outermost.append(box)
    return outermost[::-1]


def _found(text: str) -> str | None:
    held = tagged(text)
    if held is not None:
        return _stated(held) or held.strip()
    return _stated(text) or _concluded(text) or _bare(text)


def _stated(text: str) -> str | None:
    if (boxed := boxed_answer(text)) is not None:
        return boxed
    _, mark, tail = text.rpartition(MARK)
    if mark and (line := tail.lstrip("#").strip().partition("\n")[0]):
        if not _announces_only(line):
            return _formula(line[:_LONGEST_LINE]) or line
        text = tail
    for start, _ in reversed(announced(text)):
        if (found := _formula(_line_at(text, start))) is not None:
            return found
    return None


def _announces_only(line: str) -> bool:
    return not any(character.isdigit() for character in line) and "answer" in line.lower()


def _line_at(text: str, start: int) -> str:
    """The rest of the line; where that is empty, the next line that is not."""
    rest = text[start : start + _LONGEST_LINE]
    stripped = rest.lstrip(" \t*_.:")
    if not stripped.startswith("\n"):
        stripped = rest
    stripped = stripped.lstrip()
    lead = _LEAD.match(stripped)
    stripped = stripped[lead.end() :] if lead else stripped
    if stripped.startswith(("\\[", "$$")):
        return stripped
    return stripped.partition("\n")[0]


def _formula(line: str) -> str | None:
    """The formula in an announced line: between its dollars, or several with an "and" between; else its first clause."""
    formulas = list(_FORMULA.finditer(line))
    if formulas and _is_near(line[: formulas[0].start()]):
        joined = [formulas[0]]
        for formula in formulas[1:]:
            if not _BETWEEN.fullmatch(line[joined[-1].end() : formula.start()]):
                break
            joined.append(formula)
        after = re.match(r"\s*\\?%", line[joined[-1].end() :])
        return ", ".join(next(filter(None, match.groups())).strip() for match in joined) + ("\\%" if after else "")
    bold = re.match(r"\s*(?:\*\*|__)(.+?)(?:\*\*|__)", line)
    if bold is not None:
        return _formula(bold[1]) or bold[1]
    cut = _REMARK.search(line)
    clause = (line[: cut.start()] if cut else line).strip().strip("*_`\"'").strip()
    return clause or None


def _is_near(before: str) -> bool:
    """Whether the text before a formula still leads to it, rather than being an answer itself."""
    return not any(character.isdigit() for character in before) and len(before) < 80


def _bare(text: str) -> str | None:
    text = text.strip()
    if "\n" in text or len(text) > _LONGEST_BARE or _PROSE.search(_COMMANDS.sub(" ", text)) or text == "\\boxed{}":
        return None
    return text


def _concluded(text: str) -> str | None:
    """The last formula of a last line that concludes, or a bold one alone in it."""
    last_line = text.rstrip().rpartition("\n")[2][-_LONGEST_LINE:].strip()
    bold = list(re.finditer(r"\*\*([^*]+)\*\*", last_line))
    if bold and not _PROSE.search(_COMMANDS.sub(" ", bold[-1][1])) and any(map(str.isdigit, bold[-1][1])):
        return _formula(bold[-1][1])
    if not _CONCLUDES.match(last_line.lstrip("*")) or not last_line.endswith((".", "$", "\\)", "\\]")):
        return None
    found = list(_FORMULA.finditer(last_line))
    if not found:
        return None
    formula: str = next(filter(None, found[-1].groups()))
    return formula.rpartition("=")[2] if formula.count("=") > 1 else formula
