"""Whether two formulas are equal: math-verify's comparison, and what it does not see.

math-verify drops subscripts (4210_5 and 4210_6 are one number to it), everything but one number of a sequence with
dots, and differences below 10^-6; and it takes no inequality for an interval.
"""

from __future__ import annotations

import re
from typing import Any

from premem.grading.reading.formulas import listed

_SUBSCRIPT = re.compile(
    r"(?P<digits>[0-9A-Z]+(?:\.[0-9A-Z]+)?)\s*\)?\s*\}?\s*_\s*(?:\{\s*(?:\\text\{\s*)?(?P<braced>[0-9a-z]+)\s*\}?\s*\}|(?P<base>[0-9]))"
)
_IN_BASE = re.compile(rf"\(?\s*-?\s*(?:\\text\{{\s*)?{_SUBSCRIPT.pattern}\)?")
_BASES = "zero one two three four five six seven eight nine ten eleven twelve"
_OR = re.compile(
    r"\\cup|\\lor(?![A-Za-z])|\\text\s*\{\s*,?\s*or\s*\}|(?<![A-Za-z\\])or(?![A-Za-z])|,(?=[^()\[\]]*(?:[<>]|\\[lg]e))"
)
_DOTS = "\\ldots"
_MOST_PARTS = 8
_ROUNDING = 6
_TINY = 1e-3
_RELATIVE = 1e-3
"""Numbers below _TINY are equal when they differ by less than this share of the larger."""
_SUMMED = re.compile(r"([-+]?)\s*\\ldots\s*([-+]?)")
_PRODUCT = re.compile(
    r"(?<![A-Za-z\\])(?!(?:sin|cos|tan|cot|sec|csc|log|ln|exp|lim|max|min|mod|gcd|lcm)(?![A-Za-z]))[A-Za-z]{2,5}(?![A-Za-z])"
)


def equal(gold: str, found: str, *, rounding: int | None = None) -> bool:
    """Of two formulas as `premem.grading.reading.formulas.normal` writes them. May take any time and memory."""
    if re.sub(r"\s", "", gold) == re.sub(r"\s", "", found):
        return True
    bases = _base(gold), _base(found)
    if all(bases):
        return bases[0] == bases[1]
    if _DOTS in gold or _DOTS in found:
        return _equal_sequences(gold, found, rounding)
    if "\\cup" in gold + found and _OR.search(gold + found):
        return _equal_unions(gold, found, rounding)
    if _verified(gold, found, rounding):
        return True
    factors = _factors(gold), _factors(found)
    if factors == (gold, found) or "\\text" in gold + found or sorted(_letters(gold)) != sorted(_letters(found)):
        return False
    return _verified(*factors, rounding)


def _base(formula: str) -> tuple[str, int] | None:
    """Digits and base of a number such as 4210_5. None: it is something else."""
    match = _IN_BASE.fullmatch(formula)
    if match is None:
        return None
    named = match["braced"] or match["base"]
    if named.isdigit():
        base = int(named[:4])
    elif named in _BASES.split():
        base = _BASES.split().index(named)
    else:
        return None
    return match["digits"].lstrip("0"), base


def _equal_sequences(gold: str, found: str, rounding: int | None) -> bool:
    """Every term that both show is equal. With a last term, one may show more terms before the dots than the other."""
    if not (_DOTS in gold and _DOTS in found):
        return False
    (first, last), (other_first, other_last) = _terms(gold), _terms(found)
    if len(last) != len(other_last) or not (last or len(first) == len(other_first)):
        return False
    shown = [*zip(first, other_first, strict=False), *zip(last, other_last, strict=True)]
    return bool(shown) and all(equal(one, other, rounding=rounding) for one, other in shown)


def _equal_unions(gold: str, found: str, rounding: int | None) -> bool:
    """Of intervals on one side and inequalities on the other, whatever their order."""
    parts = [[part.strip() for part in _OR.split(formula) if part.strip()] for formula in (gold, found)]
    if len(parts[0]) != len(parts[1]) or len(parts[0]) > _MOST_PARTS:
        return False
    left = parts[1]
    for one in parts[0]:
        same = next((other for other in left if _verified(one, other, rounding, may_be_pair=False)), None)
        if same is None:
            return False
        left.remove(same)
    return True


def _terms(formula: str) -> tuple[list[str], list[str]]:
    """Before the first dots, and behind the last."""
    if formula.startswith(("(", "\\{", "[")):
        formula = formula.removeprefix("\\")[1:-1].removesuffix("\\")
    formula = _SUMMED.sub(lambda dots: f"{dots[1] and ','} {_DOTS} {dots[2] and ', ' + dots[2]}", formula)
    parts = [part for part in listed(formula) if part]
    dotted = [place for place, part in enumerate(parts) if _DOTS in part]
    return parts[: dotted[0]], parts[dotted[-1] + 1 :]


def _letters(formula: str) -> str:
    return re.sub(r"\\[A-Za-z]+|[^A-Za-z]", "", formula)


def _factors(formula: str) -> str:
    """`dc` and `2ba` as products of letters, where they would be read as a differential or a unit."""
    return _PRODUCT.sub(lambda letters: "".join(f"{{{letter}}}" for letter in letters[0]), formula)


def _verified(gold: str, found: str, rounding: int | None, *, may_be_pair: bool = True) -> bool:
    import math_verify

    # Its own time limits are signals, which fail in threads and do not stop a computation inside C.
    parsed = [math_verify.parse(f"\\boxed{{{formula}}}", parsing_timeout=None) for formula in (gold, found)]
    if math_verify.verify(
        *parsed,
        float_rounding=_ROUNDING if rounding is None else rounding,
        allow_set_relation_comp=not (may_be_pair and _may_be_a_pair(gold)),
        timeout_seconds=None,
    ):
        return rounding is not None or not _differ_though_tiny(parsed[0], parsed[1])
    imaginary = [_with_imaginary_unit(one) for one in parsed]
    return imaginary != parsed and bool(math_verify.verify(*imaginary, timeout_seconds=None))


def _may_be_a_pair(gold: str) -> bool:
    """(1, 2) may be a point; (1, \\infty) and [1, 2) are none."""
    return gold.startswith("(") and gold.endswith(")") and "infty" not in gold and "\\cup" not in gold


def _differ_though_tiny(gold: list[Any], found: list[Any]) -> bool:
    """Whether the values are numbers near zero that differ in their first digits."""
    from sympy import Basic

    values = [next((one for one in parsed if isinstance(one, Basic)), None) for parsed in (gold, found)]
    if values[0] is None or values[1] is None:
        return False
    return any(_differ(one, other) for one, other in _paired(values[0], values[1]))


def _paired(one: Any, other: Any) -> list[tuple[Any, Any]]:
    from sympy import FiniteSet, Interval, Tuple

    if isinstance(one, FiniteSet | Tuple) and isinstance(other, FiniteSet | Tuple) and len(one.args) == len(other.args):
        return (
            list(zip(one.args, other.args, strict=True)) if isinstance(one, Tuple) and isinstance(other, Tuple) else []
        )
    if isinstance(one, Interval) and isinstance(other, Interval):
        return [(one.start, other.start), (one.end, other.end)]
    return [(one, other)]


def _differ(one: Any, other: Any) -> bool:
    from sympy import Eq, Expr

    one, other = (value.rhs if isinstance(value, Eq) else value for value in (one, other))
    if not (isinstance(one, Expr) and isinstance(other, Expr) and one.is_number and other.is_number):
        return False
    one, other = one.doit(), other.doit()
    sizes = [abs(value.evalf(15)) for value in (one, other)]
    if not all(size.is_comparable for size in sizes) or max(sizes) >= _TINY:
        return False
    if one == other or (one - other).equals(0):
        return False
    return bool(abs(sizes[0] - sizes[1]) > _RELATIVE * max(sizes))


def _with_imaginary_unit(parsed: list[Any]) -> list[Any]:
    """With the letter i as the imaginary unit."""
    from sympy import Basic, I

    return [
        one.subs({symbol: I for symbol in one.free_symbols if symbol.name == "i"})
        if isinstance(one, Basic) and any(getattr(symbol, "name", "") == "i" for symbol in one.free_symbols)
        else one
        for one in parsed
    ]
