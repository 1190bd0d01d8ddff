"""Numbers as people write them, each brought to one canonical text, so that equal values are equal strings.

Nothing is turned into a float, and no long run of digits into an int: both would lie or take quadratic time.
Every search is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections import deque
from fractions import Fraction
from itertools import islice

CURRENCY = "$€£¥₹₩₽"
_GROUP = r"(?:,(?:\\!)?|\{,\}|\\,|[\u00a0\u2009\u202f])"  # what stands between groups of digits: 1,234 1{,}234 1 234
_NUMBER = re.compile(
    rf"""
    (?:(?<![\w)\]}}])(?P<minus>[-−])(?:\\?[{CURRENCY}][ ]?)?)?
    (?:
        \\[dt]?frac[ ]?\{{[ ]?(?P<over>[0-9]++)[ ]?\}}[ ]?\{{[ ]?(?P<under>[0-9]++)[ ]?\}}
    |
        (?:
            (?P<whole>
                [0-9]{{1,3}}(?:{_GROUP}[0-9]{{3}})+(?![0-9])
            |   [0-9]{{1,2}}(?:,[0-9]{{2}}){{1,8}},[0-9]{{3}}(?![0-9])
            |   [0-9]++
            )
            (?:\.(?P<decimals>[0-9]++))?
        |   \.(?P<only_decimals>[0-9]++)
        )
        (?:
            [eE](?P<exponent>[-+]?[0-9]{{1,6}})(?![0-9A-Za-z.])
        |   [ ]?/[ ]?(?P<divisor>[0-9]++)(?![.,][0-9]|[ ]?/[ ]?[0-9])
        )?
    )
    """,
    re.VERBOSE,
)
_NOT_DIGITS = re.compile("[^0-9]")
_LONGEST_RATIO = 18
"""Digits of a numerator or denominator up to which a fraction is reduced."""
_LONGEST_PADDING = 400
"""Zeros up to which a power of ten is written out."""


def first_number(text: str) -> str | None:
    """The first number in the text, canonical: `first_number("$1,080.00 a day") == "1080"`. None: there is none."""
    matches = list(islice(_NUMBER.finditer(text), 2))
    if not matches:
        return None
    if len(matches) == 2 and (mixed := _mixed(text, *matches)) is not None:
        return mixed
    return _canonical(text, matches[0])


def last_number(text: str) -> str | None:
    """The last number in the text, canonical. None: there is none."""
    last_digit = max(map(text.rfind, "0123456789"))
    if last_digit < 0:
        return None
    # No number reaches over the end of a line, so the others need not be read.
    text = text[text.rfind("\n", 0, last_digit) + 1 :]
    matches = deque(_NUMBER.finditer(text), maxlen=2)
    if len(matches) == 2 and (mixed := _mixed(text, *matches)) is not None:
        return mixed
    return _canonical(text, matches[-1])


def only_number(text: str) -> str | None:
    """The number that the text consists of, canonical. None where it is anything else, or more than that."""
    bare = text.strip().lstrip("\\" + CURRENCY).lstrip()
    match = _NUMBER.fullmatch(bare)
    return None if match is None else _canonical(bare, match)


def _canonical(text: str, match: re.Match[str]) -> str:
    minus, over, under, whole, decimals, only_decimals, exponent, divisor = match.groups()
    if whole is not None and not whole.isdigit():
        whole = _NOT_DIGITS.sub("", whole)
    if over is not None:
        return _ratio(minus, over, under)
    if divisor is not None and whole is not None and decimals is None:
        return _ratio(minus, whole, divisor) if _stands_alone(text, match) else _decimal(None, divisor, 0)
    if whole is not None and decimals is None and exponent is None and len(whole) <= _LONGEST_PADDING:
        digits = whole.lstrip("0") or "0"
        return f"-{digits}" if minus and digits != "0" else digits
    decimals = decimals or only_decimals or ""
    return _decimal(minus, (whole or "") + decimals, len(decimals) - int(exponent or 0))


def _stands_alone(text: str, match: re.Match[str]) -> bool:
    """Whether a/b is no part of a/b/c, such as a date."""
    return not text[max(0, match.start() - 2) : match.start()].rstrip(" ").endswith("/")


def _decimal(minus: str | None, digits: str, scale: int) -> str:
    """The number digits × 10^−scale."""
    digits = digits.lstrip("0")
    if not digits:
        return "0"
    significant = digits.rstrip("0")
    scale -= len(digits) - len(significant)
    sign = "-" if minus else ""
    if -_LONGEST_PADDING <= scale <= 0:
        return f"{sign}{significant}{'0' * -scale}"
    if 0 < scale <= len(significant) + _LONGEST_PADDING:
        return f"{sign}{significant[:-scale] or '0'}.{significant[-scale:].rjust(scale, '0')}"
    return f"{sign}{significant}e{-scale}"


def _ratio(minus: str | None, over: str, under: str, *, plus: str = "0") -> str:
    """The number plus + over/under. A division by zero is left as it was written."""
    over, under, plus = (digits.lstrip("0") or "0" for digits in (over, under, plus))
    sign = "-" if minus else ""
    if under == "0" or max(len(over), len(under), len(plus)) > _LONGEST_RATIO:
        return f"{sign}{over}/{under}"
    value = int(plus) + Fraction(int(over), int(under))
    for scale in range(61):  # a denominator of 18 digits has at most 59 factors of 2
        if 10**scale % value.denominator == 0:
            return _decimal(minus, str(value.numerator * 10**scale // value.denominator), scale)
    return f"{sign}{value.numerator}/{value.denominator}"


def _mixed(text: str, whole: re.Match[str], part: re.Match[str]) -> str | None:
    """The number written as 3 1/2 or 3\\frac{1}{2}; None where these are two numbers."""
    over, under = (part["whole"], part["divisor"]) if part["divisor"] else (part["over"], part["under"])
    gap = text[whole.end() : part.start()]
    if over is None or under is None or part["minus"] or part["decimals"] or gap not in ("", " "):
        return None
    if not whole["whole"] or whole["decimals"] or whole["exponent"] or whole["divisor"]:
        return None
    integer = _NOT_DIGITS.sub("", whole["whole"])
    if max(len(integer), len(over), len(under)) > _LONGEST_RATIO or not over.isdigit() or int(over) >= int(under):
        return None
    return _ratio(whole["minus"], over, under, plus=integer)
