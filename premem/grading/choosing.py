"""Which grader fits a data set, by how its references state their final answers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from premem.grading.reading.announcements import announced
from premem.grading.reading.boxes import boxes
from premem.grading.reading.characters import plain
from premem.grading.reading.letters import places_of
from premem.grading.reading.thoughts import spoken
from premem.wire.bodies import GraderChoice

SAMPLE = 200
"""References that are looked at: the first ones of a data set."""
_MOST = 0.5
"""Share of references that must have a form for it to decide."""
_LETTERS = 0.9
"""The same for letters: a few numbers among them, and they are no options."""
_MARKED = re.compile(r"####[ \t]*\S")
_FORMULA = re.compile(r"\\[a-zA-Z]+|\$[^$]+\$|[A-Za-z0-9)}]\s*\^|[√∞π²³]|[\[(]\s*-?[0-9.]+\s*,\s*-?[0-9.]+\s*[\])]")
_LONGEST_BARE = 300
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Chosen(NamedTuple):
    grader: GraderChoice
    reason: str
    """For people: what in the references decided."""


def choose_grader(references: Iterable[str], traces: Iterable[str] = ()) -> Chosen:
    """The grader for data whose grader nobody named, by a sample of its references.

    References that end in `####` are for gsm8k, boxed ones and bare formulas for math, and letters of options for
    choice, with as many letters as the sample needs. Where the references are bare numbers or words, the `traces` decide
    that they come from; and where those have no usual form either, gsm8k: numbers need no mark. The same sample always
    gives the same grader.
    """
    chosen = _by_form(references)
    if chosen is None:
        chosen = _by_form(traces)
    if chosen is None:
        return Chosen(GraderChoice(name="gsm8k"), "no usual form was found, and gsm8k reads numbers without a mark")
    return chosen


def _by_form(references: Iterable[str]) -> Chosen | None:
    """By what most of the texts have in common. None: nothing that decides."""
    texts = [plain(spoken(text)).strip() for text, _ in zip(references, range(SAMPLE), strict=False)]
    if not texts:
        return None
    shares = {
        name: sum(map(has_form, texts)) / len(texts)
        for name, has_form in (("marked", _is_marked), ("boxed", _is_boxed), ("formula", _is_formula))
    }
    letters = [found for text in texts if (found := _option(text)) is not None]
    if len(letters) >= _LETTERS * len(texts):
        return _choice("".join(letters), len(letters) / len(texts))
    if shares["marked"] >= _MOST and shares["marked"] >= shares["boxed"]:
        return Chosen(GraderChoice(name="gsm8k"), f"{shares['marked']:.0%} of the references have an answer after ####")
    if shares["boxed"] >= _MOST:
        return Chosen(GraderChoice(name="math"), f"{shares['boxed']:.0%} of the references have a \\boxed{{}} answer")
    if shares["boxed"] + shares["formula"] >= _MOST:
        return Chosen(
            GraderChoice(name="math"), f"{shares['boxed'] + shares['formula']:.0%} of the references are formulas"
        )
    return None


def _choice(letters: str, share: float) -> Chosen:
    last = max(letters)
    needed = next(count for count in (5, 10, 26) if last in _ALPHABET[:count])
    options = {} if needed == 5 else {"letters": _ALPHABET[:needed]}
    return Chosen(
        GraderChoice(name="choice", options=options), f"{share:.0%} of the references name an option, up to {last}"
    )


def _is_marked(text: str) -> bool:
    return _MARKED.search(text) is not None


def _is_boxed(text: str) -> bool:
    return "\\boxed" in text and bool(boxes(text))


def _is_formula(text: str) -> bool:
    """A bare answer that is more than a number."""
    return (
        "\n" not in text and len(text) <= _LONGEST_BARE and "\\boxed" not in text and _FORMULA.search(text) is not None
    )


def _option(text: str) -> str | None:
    """The letter of an option that a reference names: by itself, before its text, or at the end of a solution."""
    places = places_of(_ALPHABET)
    for start, _ in reversed(announced(text)):
        return places.announced(text[start : start + _LONGEST_BARE])
    if len(text) > _LONGEST_BARE or "\n" in text:
        return None
    return places.alone(text, with_text=True) or places.beginning(text)
