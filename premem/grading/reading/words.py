"""Whole numbers written in English words."""

from __future__ import annotations

import re

from premem.grading.reading.quantities import Quantity

_BELOW_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_VALUES = {word: value for value, word in enumerate(_BELOW_TWENTY.split())} | {
    word: 20 + 10 * at for at, word in enumerate(_TENS.split())
}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_ANY = "|".join([*sorted(_VALUES, key=len, reverse=True), "hundred", *_SCALES])
_NUMBER = re.compile(rf"\b(?:(?:{_ANY})\b(?:[\s-]+(?:and\s+)?(?=(?:{_ANY})\b))?){{1,20}}", re.IGNORECASE)


def number_in_words(text: str) -> Quantity | None:
    """The first one: `number_in_words("forty-two apples")` is 42. None: there is none."""
    match = _NUMBER.search(text[:500])
    if match is None:
        return None
    total = part = 0
    for word in re.findall("[a-z]+", match[0].lower()):
        if word in _VALUES:
            part += _VALUES[word]
        elif word == "hundred":
            part = max(part, 1) * 100
        elif word in _SCALES:
            total, part = total + max(part, 1) * _SCALES[word], 0
    return Quantity(str(total + part))
