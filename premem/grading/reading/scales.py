"""Words behind a number that make it larger: 2 million, 1.5亿, 3 lakh."""

from __future__ import annotations

import re

from premem.grading.reading.numbers import fraction_of, written

_WORDS = {
    2: "hundred",
    3: "thousand thousands tausend mille mil mila тысяч тысячи тысяча 千 천 हज़ार",
    4: "万 萬 만",
    5: "lakh lakhs लाख",
    6: "million millions mio millionen millón millones milhão milhões milione milioni mln миллион миллиона миллионов млн 百万",
    7: "crore crores",
    8: "亿 億 억",
    9: "billion billions bn milliarde milliarden milliard milliards mrd миллиард миллиарда миллиардов млрд 十亿",
    12: "trillion trillions",
}
_SCALES = {word: zeros for zeros, words in _WORDS.items() for word in words.split()}
_SCALE_WORD = re.compile(r"[ \u00a0]?([^\W\d_]{1,12})\.?")


def scaled(text: str, end: int, canonical: str) -> tuple[str, int] | None:
    """The number with the word behind it, and where that ends: 2 million is 2000000. None: no such word is there."""
    word = _SCALE_WORD.match(text, end)
    if word is None:
        return None
    name = word[1].lower()
    known = name if name in _SCALES else name[:2] if name[:2] in _SCALES else name[:1]
    if known != name and known.isascii():
        return None
    zeros = _SCALES.get(known)
    value = fraction_of(canonical) if zeros is not None and re.fullmatch("[-0-9./e]+", canonical) else None
    if value is None or zeros is None:
        return None
    return written(value * 10**zeros), word.start(1) + len(known)
