"""Text in the characters that the graders read: ASCII digits, letters and signs for those of other scripts."""

from __future__ import annotations

import re
import unicodedata

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ", "0123456789+-()nix")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋ₙₓₐᵢ", "0123456789+-nxai")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋ₙₓₐᵢ]+")
_WIDE_GROUPS = re.compile("(?<=[０-９])，(?=[０-９]{3}(?![０-９]))")
_ONE_OVER = re.compile("⅟([0-9]+)")
_FULL_WIDTH = range(0xFF01, 0xFF5F)
_OTHERS = {
    **dict.fromkeys("‐‑‒–−﹣－➖", "-"),
    **dict.fromkeys("‘’ʼ′＇", "'"),
    **dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u061c", ""),
    **dict.fromkeys("\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2008\u200a\u205f\u3000", " "),
    "\u2007": "\u202f",  # as wide as a digit: it stands between groups of them
    "⁄": "/",
    "∕": "/",
    "，": ", ",  # between two numbers it separates them: 30，200 is no 30,200
    "、": ", ",
    "،": ", ",
    "٫": ".",
    "٬": ",",
    "٪": "%",
    "。": ". ",
    "｡": ". ",
    "．": ".",
    "।": ". ",
    "￥": "¥",
    "【": "[",
    "】": "]",
    "〈": "(",
    "〉": ")",
}


class _Plain(dict[int, str]):
    """Filled as characters are met: a table of all digits of Unicode would take long to make."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _plain_character(chr(code))
        return found


def plain(text: str) -> str:
    """Digits of every script, full-width forms, dashes as minus signs, ½ as `\\frac{1}{2}`, ² as `^{2}`."""
    if text.isascii():
        return text
    text = _WIDE_GROUPS.sub(",", text)
    text = _RAISED.sub(lambda run: f"^{{{run[0].translate(_SUPERSCRIPTS)}}}", text)
    text = _LOWERED.sub(lambda run: f"_{{{run[0].translate(_SUBSCRIPTS)}}}", text)
    return _ONE_OVER.sub(r"\\frac{1}{\1}", text.translate(_PLAIN))


def _plain_character(character: str) -> str:
    known = _OTHERS.get(character)
    if known is not None:
        return known
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    if ord(character) in _FULL_WIDTH:
        return chr(ord(character) - 0xFEE0)
    if unicodedata.category(character) == "No":
        over, slash, under = unicodedata.normalize("NFKC", character).partition("⁄")
        if slash and over and under:
            return f"\\frac{{{over}}}{{{under}}}"
    return character


_PLAIN = _Plain()
