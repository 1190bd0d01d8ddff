"""What an answer states, brought to one canonical text: a number or what is more than one number.

A time, a ratio, a range, a date, a list or an expression is no single number: `5:30` and `5:45` differ, and so do
`2\\sqrt{3}` and `2`. What only surrounds the answer is left out: units, remarks, the working before the last equals sign.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from premem.grading.reading.arithmetic import value_of
from premem.grading.reading.numbers import CURRENCY, number_at, only_number
from premem.grading.reading.scales import scaled

_LONGEST = 500
"""Characters of a line that are read. An answer is shorter."""


class Quantity(NamedTuple):
    value: str
    """Canonical: equal values are equal texts."""
    unit: str = ""
    """What follows the number, in lower case: "%", "cm", "pm"."""


_WRAPPED = (re.compile(r"\\(?:boxed|fbox|text|textbf|mathrm|mathbf|textit|mbox|operatorname)\s*\{([^{}]*)\}"), r" \1 ")
_TIDY = [
    (re.compile(r"<<[^<>]*>>(?=[^\s])"), ""),
    _WRAPPED,
    _WRAPPED,  # one in another
    (re.compile(r"(?<=[0-9)])\*\*(?=[0-9({])"), "^"),
    (re.compile(r"\\(?:left|right|displaystyle|!|\(|\)|\[|\])|\*\*|__|`"), ""),
    (re.compile(rf"\\?[{CURRENCY}]"), ""),
    (re.compile(r"\\[dt]frac"), r"\\frac"),
    (re.compile(r"\\,(?![0-9]{3}(?![0-9]))|\\[;: ]|\\q?quad|~"), " "),
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])|[×·∙✕✖]|(?<=[0-9)])\s*[xX]\s*(?=[0-9(])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])|÷"), "/"),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\colon(?![A-Za-z])"), ":"),
    (re.compile(r"\^?\s*\{?\s*\\(?:circ|degree)\s*\}?|°"), " degrees "),
    (re.compile(r"\\pi(?![A-Za-z])|π|(?<=[0-9])\s*pi(?![A-Za-z])"), "π"),
    (re.compile(r"\\sqrt\s*\[\s*([0-9]+)\s*\]\s*\{([^{}]*)\}"), r"root\1(\2)"),
    (re.compile(r"(?:\\sqrt|√)\s*(?:\{([^{}]*)\}|\(([^()]*)\)|([0-9]+))"), r"sqrt(\1\2\3)"),
    (re.compile(r"\\frac\s*\{([^{}]*[^0-9{}\s][^{}]*)\}\s*\{([^{}]*)\}"), r"(\1)/(\2)"),
    (re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*[^0-9{}\s][^{}]*)\}"), r"(\1)/(\2)"),
    (re.compile(r"\^\s*\{\s*([^{}]*?)\s*\}"), r"^\1"),
    (re.compile(r"</?[a-z]{1,6}>"), " "),
    (re.compile(r"(?<![^\W_])(?:minus|negative)\s+(?=[0-9.])", re.IGNORECASE), "-"),
    (re.compile(r"−"), "-"),
    (re.compile(r"(?:\\approx|≈|≒)"), "="),
]
_WORD = r"[^\W\d_]{2,}"
_PARENTHESES = re.compile(
    rf"(?<!sqrt)(?<!root[0-9])(?:(?<=[\s\w%.])\s+|(?<=[^\W\dA-Za-z]))\([^()]*(?:{_WORD}|=)[^()]*\)"
)
_CUT = re.compile(
    r"[,;:]?\s+(?:because|since|as|where|with|when|which|so|if|after|for|but|than|that|per|in total)(?![^\W_])"
    rf"|[,;]\s+(?!(?:and|or|y|et|und|e|o|ou|oder)\s){_WORD}|[.!?](?=\s|$)|;(?!\s*-?[0-9])(?=\s|$)|\s(?:—|–|--?)\s+(?={_WORD})|=>|⇒|→|\n|<[|/]"
)
_EQUALS = re.compile(r"(?<![<>!:=])=(?![=>])")
_NAMED = re.compile(r"\s*([A-Za-z](?:_?\w)?)\s*=\s*([^=]+)")
_NAMES = re.compile(r"\s*[A-Za-z](?:_?\w)?\s*=")
_SYMBOLIC = re.compile(r"\s*-?\s*[0-9]*\s*\\(?!frac|,|[^A-Za-z])[A-Za-z]+")
_RELATION = re.compile(r"(?<![A-Za-z])[A-Za-z]\s*(?:[<>≤≥≠]|\\[lgn]e)|(?:[<>≤≥≠]|\\[lgn]eq?)\s*[A-Za-z](?![A-Za-z])")
_BETWEEN = r"(?:\s*[,;&]\s*(?:and\s+|or\s+)?|\s+(?:and|or|und|oder|et|ou|y|e|o|和|或)\s+)"
_SEPARATOR = re.compile(_BETWEEN)
_START = re.compile(r"(?:-\s{0,2})?(?:(?<![0-9])\.?[0-9]|\\frac|sqrt\(|root[0-9]+\(|\((?=[-0-9.\s]*[0-9]))")
_SYMBOL_START = re.compile(r"\s*-?\s*(?:π|\(?[a-zA-Z](?:\s*[-+*/^]\s*[\w(π]|\^))")
_TIMES = re.compile(r"(?P<first>[0-9]+(?:\.[0-9]+)?)(?P<others>(?:\s?:\s?[0-9]+(?:\.[0-9]+)?)+)(?![\w])")
_DATE = re.compile(r"([0-9]{1,4})([-/.])([0-9]{1,2})\2([0-9]{1,4})(?![0-9/]|[.-][0-9])")
_TO = re.compile(r"\s+to\s+")
_UNIT = re.compile(r"\s*(%|[^\W\d_]+(?:\.[^\W\d_]\.)?(?:\s?/\s?[^\W\d_]+)?(?:\^[0-9])?)")
_VERBS = {"is", "are", "was", "were", "would", "has", "have"}
_HALF_DAY = re.compile(r"\s*([ap])\.?\s?m\b\.?", re.IGNORECASE)


def stated(text: str) -> Quantity | None:
    """What the text states first, as in an answer by itself; None where it names no number."""
    if len(text) > _LONGEST and (number := only_number(text.partition("\n")[0])) is not None:
        return Quantity(number)
    line = text[:_LONGEST]
    for pattern, plain in _TIDY:
        line = pattern.sub(plain, line)
    line = _PARENTHESES.sub("", line)
    if _NAMES.match(line):
        line = line.replace(";", ",")
    line = _first_clause(line)
    if _SYMBOLIC.match(line) or _RELATION.search(line):
        return Quantity(re.sub(r"\s", "", line))
    items = [part for part in _SEPARATOR.split(line) if part.strip()]
    named = [_NAMED.fullmatch(item) for item in items]
    if len(items) > 1 and all(named):
        return _assignments([(match[1], match[2]) for match in named if match])
    parts = _EQUALS.split(line)
    for part in reversed(parts):
        found = _first(part)
        if found is not None:
            return found
    return None


def _first_clause(line: str) -> str:
    """Up to the first remark behind a number."""
    digit = re.search("[0-9]|π|sqrt", line)
    if digit is None:
        return line
    cut = _CUT.search(line, digit.end())
    return line[: cut.start()] if cut else line


def _assignments(named: list[tuple[str, str]]) -> Quantity | None:
    values = [(name, _first(text)) for name, text in named]
    if any(value is None for _, value in values):
        return None
    one_name = len({name for name, _ in values}) == 1
    listed = sorted(value.value if one_name else f"{name}={value.value}" for name, value in values if value)
    return Quantity(";".join(listed))


def _first(part: str) -> Quantity | None:
    """The first quantity in the part."""
    symbol = _SYMBOL_START.match(part)
    if symbol is not None and (found := _list(part, len(part) - len(part.lstrip()))) is not None:
        return found
    for start in _START.finditer(part):
        found = _list(part, start.start())
        if found is not None:
            return found
    return None


def _list(part: str, start: int) -> Quantity | None:
    """One quantity, or several alike with nothing else among them."""
    first = _one(part, start)
    if first is None:
        return None
    quantity, end = first
    listed = [quantity]
    while (between := _SEPARATOR.match(part, end)) is not None:
        following = _one(part, between.end())
        if following is None:
            return quantity
        if _is_aside(quantity, between[0], following[0]):
            return quantity
        listed.append(following[0])
        end = following[1]
    if len(listed) == 1:
        return quantity
    units = {one.unit for one in listed if one.unit}
    if len(units) > 1 or (units and not listed[-1].unit) or units & _VERBS:
        return quantity
    return Quantity(";".join(sorted(one.value for one in listed)), listed[-1].unit)


def _is_aside(first: Quantity, between: str, following: Quantity) -> bool:
    """Whether 24 is said again, as in "24, i.e. 4 * 6" and "24, or 2 dozen"."""
    is_number = first.value[-1:].isdigit()
    return is_number and (
        following.value.isalpha() or ("or" in between.split() and bool(following.unit) and not first.unit)
    )


def _one(part: str, start: int) -> tuple[Quantity, int] | None:
    start += len(part[start:]) - len(part[start:].lstrip())
    if (date := _DATE.match(part, start)) and (date[2] == "/" or max(len(date[1]), len(date[4])) == 4):
        return Quantity("/".join(str(int(date[group])) for group in (1, 3, 4))), date.end()
    if times := _TIMES.match(part, start):
        return _times(part, times)
    read = value_of(part, start)
    if read is None:
        return None
    value, end = read
    if to := _TO.match(part, end):
        other = value_of(part, to.end())
        if other is not None:
            value, end = f"{value} to {other[0]}", other[1]
    bigger = scaled(part, end, value)
    if bigger is not None:
        value, end = bigger
    unit = _UNIT.match(part, end)
    if unit is not None and not _SEPARATOR.match(part, end):
        return Quantity(value, _singular(unit[1])), unit.end()
    return Quantity(value), end


def _times(part: str, times: re.Match[str]) -> tuple[Quantity, int]:
    first = number_at(times["first"], 0)
    value = (first[0] if first else times["first"]) + re.sub(r"\s", "", times["others"])
    if half := _HALF_DAY.match(part, times.end()):
        return Quantity(value, half[1].lower() + "m"), half.end()
    return Quantity(value), times.end()


def _singular(unit: str) -> str:
    unit = unit.lower()
    return {"percent": "%", "pct": "%", "prozent": "%"}.get(
        unit, unit[:-1] if len(unit) > 2 and unit.endswith("s") and unit not in _VERBS else unit
    )


def same_time(expected: Quantity, found: Quantity) -> bool:
    """Whether 5:30 and 5:30 pm, or 17:30 and 5:30 pm, are one time of day. Needs a half of the day on one side."""
    if not (expected.unit in ("am", "pm") or found.unit in ("am", "pm")):
        return False
    return bool(_minutes(expected) & _minutes(found))


def _minutes(time: Quantity) -> set[int]:
    """Of the day, from midnight: both that 5:30 may stand for."""
    read = re.fullmatch(r"([0-9]{1,2})(?::([0-9]{2}))?", time.value)
    if read is None or int(read[1]) > 23 or int(read[2] or 0) > 59:
        return set()
    hour, minute = int(read[1]), int(read[2] or 0)
    if time.unit == "am":
        hours = {hour % 12}
    elif time.unit == "pm":
        hours = {hour % 12 + 12}
    else:
        hours = {hour, hour % 12, hour % 12 + 12} if 1 <= hour <= 12 else {hour}
    return {hour * 60 + minute for hour in hours}
