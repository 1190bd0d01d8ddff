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
_SPACE = r"(?:\\,|[ \u00a0\u2009\u202f])"
_NUMBER = re.compile(
    rf"""
    (?:(?<![A-Za-z0-9_)\]}}])(?P<minus>[-−])(?:\\?[{CURRENCY}][ ]?)?)?
    (?:
        \\[dt]?frac[ ]?(?:\{{[ ]?(?P<over>[0-9]++)[ ]?\}}|(?P<over_digit>[0-9]))
                   [ ]?(?:\{{[ ]?(?P<under>[0-9]++)[ ]?\}}|(?P<under_digit>[0-9]))
    |
        (?:
            (?P<comma_decimal>                                             # a comma may begin the decimals of these
                [0-9]{{1,3}}(?:\.[0-9]{{3}}){{1,12}}(?=,[0-9]{{1,2}}(?![0-9,]))      # 1.234,56
            |   [0-9]{{1,3}}(?:\.[0-9]{{3}}){{2,12}}+(?![.]?[0-9])             # 1.234.567
            |   [0-9]{{1,3}}(?:{_SPACE}[0-9]{{3}}){{1,12}}(?![0-9]|[ ]?/)          # 1 234
            )
        |
            (?P<whole>
                [0-9]{{1,3}}(?:(?:,(?:\\!)?|\{{,\}})[0-9]{{3}})+(?![0-9])     # 1,234 1{{,}}234
            |   [0-9]{{1,3}}(?:'[0-9]{{3}})+(?![0-9])                       # 1'234
            |   [0-9]{{1,2}}(?:,[0-9]{{2}}){{1,8}},[0-9]{{3}}(?![0-9])
            |   [0-9]++
            )
        )
        (?(comma_decimal)(?:[.,](?P<comma_decimals>[0-9]++))?|(?:\.(?P<decimals>[0-9]++))?)
        (?P<scaled>
            [eE](?P<exponent>[-+]?[0-9]{{1,6}})(?![0-9A-Za-z.])
        |   [ ]?(?:[*×·x]|\\times|\\cdot)[ ]?10[ ]?(?:\^|\*\*)[ ]?(?:\{{[ ]?(?P<power>[-−+]?[0-9]{{1,6}})[ ]?\}}
                                                               |(?P<bare_power>[-−+]?[0-9]{{1,6}})(?![0-9.]))
        |   [ ]?/[ ]?(?P<divisor>[0-9]++)(?![.,][0-9]|[ ]?/[ ]?[0-9])
        )?
    |
        \.(?P<only_decimals>[0-9]++)(?:[eE](?P<only_exponent>[-+]?[0-9]{{1,6}})(?![0-9A-Za-z.]))?
    )
    """,
    re.VERBOSE,
)
_NOT_DIGITS = re.compile("[^0-9]")
_ATTACHED = re.compile(r"(?:[\^_]\{?|(?<![A-Za-z])[ck]?m)-?\Z")
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


def number_at(text: str, start: int) -> tuple[str, int] | None:
    """The number that begins there, canonical, and where it ends. None: there is none."""
    match = _NUMBER.match(text, start)
    if match is None:
        return None
    part = _NUMBER.match(text, match.end() + (text[match.end() : match.end() + 1] == " "))
    if part is not None and (mixed := _mixed(text, match, part)) is not None:
        return mixed, part.end()
    return _canonical(text, match), match.end()


def last_number(text: str) -> str | None:
    """The last number in the text, canonical, which is no index and no exponent. None: there is none."""
    found = last_number_and_place(text)
    return None if found is None else found[0]


def last_number_and_place(text: str) -> tuple[str, int, int] | None:
    """The last number, canonical, and where it starts and ends."""
    last_digit = max(map(text.rfind, "0123456789"))
    if last_digit < 0:
        return None
    # No number reaches over the end of a line, so the others need not be read.
    line_start = text.rfind("\n", 0, last_digit) + 1
    line_end = text.find("\n", last_digit)
    line = text[line_start : line_end if line_end >= 0 else len(text)]
    matches = deque(_NUMBER.finditer(line), maxlen=3)
    if len(matches) > 1 and _ATTACHED.search(line, max(0, matches[-1].start() - 3), matches[-1].start()):
        matches.pop()  # the 2 of 18 m^2
    last = matches[-1]
    value, start = _canonical(line, last), last.start()
    if len(matches) > 1 and (mixed := _mixed(line, matches[-2], last)) is not None:
        value, start = mixed, matches[-2].start()
    return value, line_start + start, line_start + last.end()


def only_number(text: str) -> str | None:
    """The number that the text consists of, canonical. None where it is anything else, or more than that."""
    bare = text.strip().lstrip("\\" + CURRENCY).lstrip()
    match = _NUMBER.fullmatch(bare)
    return None if match is None else _canonical(bare, match)


def _canonical(text: str, match: re.Match[str]) -> str:
    minus, whole, decimals, divisor = match["minus"], _whole(match), match["decimals"], match["divisor"]
    only_digits = match["scaled"] is None and decimals is None and match["comma_decimals"] is None
    if only_digits and whole is not None and len(whole) <= _LONGEST_PADDING:
        digits = whole.lstrip("0") or "0"
        return f"-{digits}" if minus and digits != "0" else digits
    if (over := match["over"] or match["over_digit"]) is not None:
        return _ratio(minus, over, match["under"] or match["under_digit"])
    decimals = decimals or match["comma_decimals"] or match["only_decimals"] or ""
    if divisor is not None and whole is not None and not decimals:
        return _ratio(minus, whole, divisor) if _stands_alone(text, match) else _decimal(None, divisor, 0)
    exponent = match["exponent"] or match["power"] or match["bare_power"] or match["only_exponent"] or "0"
    return _decimal(minus, (whole or "") + decimals, len(decimals) - int(exponent.replace("−", "-")))


def _whole(match: re.Match[str]) -> str | None:
    """The digits before the decimals."""
    whole = match["whole"] or match["comma_decimal"]
    return whole if whole is None or whole.isdigit() else _NOT_DIGITS.sub("", whole)


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
    over, under = (
        (_whole(part), part["divisor"])
        if part["divisor"]
        else (part["over"] or part["over_digit"], part["under"] or part["under_digit"])
    )
    gap = text[whole.end() : part.start()]
    if over is None or under is None or part["minus"] or part["decimals"] or gap not in ("", " "):
        return None
    integer = _whole(whole)
    if not integer or whole["decimals"] or whole["comma_decimals"] or whole["scaled"]:
        return None
    if max(len(integer), len(over), len(under)) > _LONGEST_RATIO or not over.isdigit() or int(over) >= int(under):
        return None
    return _ratio(whole["minus"], over, under, plus=integer)


def fraction_of(canonical: str) -> Fraction | None:
    """Exact. None where the number is too long, or no number: a division by zero."""
    if len(canonical) > _LONGEST_PADDING:
        return None
    mantissa, _, exponent = canonical.partition("e")
    if len(exponent) > 3 or canonical.endswith("/0"):
        return None
    return Fraction(mantissa) * Fraction(10) ** int(exponent or 0)


def written(value: Fraction) -> str:
    """Canonical."""
    over, under = str(abs(value.numerator)), str(value.denominator)
    minus = "-" if value < 0 else None
    if under == "1":
        return _decimal(minus, over, 0)
    if max(len(over), len(under)) > _LONGEST_RATIO:
        twos_and_fives = _without(_without(value.denominator, 2), 5) == 1
        scale = value.denominator.bit_length()
        return (
            _decimal(minus, str(abs(value.numerator) * 10**scale // value.denominator), scale)
            if twos_and_fives
            else f"{minus or ''}{over}/{under}"
        )
    return _ratio(minus, over, under)


def _without(number: int, factor: int) -> int:
    while number % factor == 0:
        number //= factor
    return number
