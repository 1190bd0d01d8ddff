"""Expressions at the beginning of an answer: those of numbers are computed, exactly; others are kept as written."""

from __future__ import annotations

import ast
import re
from fractions import Fraction

from premem.grading.reading.numbers import fraction_of, number_at, written

_LONGEST = 30
"""Numbers and signs of an expression that are read."""
_MOST_BITS = 1300
"""Of a power that is computed; 400 decimal digits."""
_UNITS = frozenset("mghsdklcpLCFKNJWVAM")
"""Letters that, right behind a number, are a unit rather than a variable."""
_SIGN = re.compile(r"\s*(\*\*|[-+*/^])\s*")
_FUNCTION = re.compile(r"(?:sqrt|root[0-9]+)\([^()]*\)")
_LETTER = re.compile(r"[A-Za-z](?![A-Za-z'])|π")
_RAISED = re.compile(r"-?[0-9]+(?![0-9.])|\(-?[0-9]+\)")


def value_of(text: str, start: int) -> tuple[str, int] | None:
    """The expression there, canonical, and where it ends. None: there is none."""
    reading = _Reading(text, start)
    reading.read()
    if not reading.pieces:
        return None
    return reading.value(), reading.end


class _Reading:
    """Pieces are ("number" | "symbol" | "sign", text)."""

    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.pieces: list[tuple[str, str]] = []
        self.end = start
        self.spaced = False

    def read(self) -> None:
        place = self._signed(self.end)
        if place is None:
            self.pieces.clear()
            return
        self.end = place
        while len(self.pieces) < _LONGEST:
            kept = len(self.pieces)
            place = self._continued(self.end)
            if place is None:
                del self.pieces[kept:]
                return
            self.end = place

    def _continued(self, place: int) -> int | None:
        """Past a sign and its operand, or a factor right behind the last."""
        if sign := _SIGN.match(self.text, place):
            self.pieces.append(("sign", "^" if sign[1] == "**" else sign[1]))
            self.spaced = self.spaced or sign[0] != sign[1]
            if self.pieces[-1][1] == "^":
                raised = _RAISED.match(self.text, sign.end())
                if raised is not None:
                    self.pieces.append(("number", raised[0].strip("()")))
                    return raised.end()
            return self._signed(sign.end())
        return self._factor(place)

    def _factor(self, place: int) -> int | None:
        if letter := _LETTER.match(self.text, place):
            if letter[0] in _UNITS and not re.match(r"\s?[-+*^]\s?[0-9(A-Za-z]", self.text[letter.end() :]):
                return None
            self.pieces.append(("symbol", letter[0]))
            return letter.end()
        space = re.compile(r"\s?").match(self.text, place)
        after = space.end() if space else place
        if function := _FUNCTION.match(self.text, after):
            self.pieces.append(("symbol", function[0].replace(" ", "")))
            return function.end()
        if self.text.startswith("π", after):
            self.pieces.append(("symbol", "π"))
            return after + 1
        if self.text.startswith("(", place):
            return self._group(place)
        return None

    def _signed(self, place: int) -> int | None:
        if minus := re.compile(r"([-+])\s{0,2}").match(self.text, place):
            self.pieces.append(("sign", minus[1]))
            place = minus.end()
        return self._operand(place)

    def _operand(self, place: int) -> int | None:
        if self.text.startswith("(", place):
            return self._group(place)
        if (number := number_at(self.text, place)) is not None and not self.text.startswith("-", place):
            self.pieces.append(("number", number[0]))
            return number[1]
        if (symbol := _FUNCTION.match(self.text, place) or _LETTER.match(self.text, place)) is not None:
            self.pieces.append(("symbol", symbol[0].replace(" ", "")))
            return symbol.end()
        return None

    def _group(self, place: int) -> int | None:
        inner = _Reading(self.text, place + 1)
        if len(self.pieces) > _LONGEST or self.text.count("(", 0, place) > _LONGEST:
            return None
        inner.read()
        closed = re.compile(r"\s*\)").match(self.text, inner.end)
        if not inner.pieces or closed is None:
            return None
        self.pieces += [("sign", "("), *inner.pieces, ("sign", ")")]
        return closed.end()

    def value(self) -> str:
        while self.pieces[0] == ("sign", "("):  # ($5) and (3x + 2) are what they hold
            if self.pieces[-1] != ("sign", ")") or _first_closed(self.pieces) != len(self.pieces) - 1:
                break
            self.pieces = self.pieces[1:-1]
        texts = [text for _, text in self.pieces]
        if len(texts) == 1:
            return texts[0]
        if texts[0] == "-" and len(texts) == 2 and self.pieces[1][0] == "number":
            return texts[1] if texts[1] == "0" else f"-{texts[1]}"
        kinds = {kind for kind, _ in self.pieces}
        is_range = [text for kind, text in self.pieces if kind == "sign"] == ["-"] and len(texts) == 3
        if "symbol" not in kinds and not (is_range and not self.spaced):
            computed = _computed(self.pieces)
            if computed is not None:
                return computed
        return re.sub(r"(?<=[0-9A-Za-zπ)])\*(?=[A-Za-zπ(])", "", "".join(texts))


def _first_closed(pieces: list[tuple[str, str]]) -> int:
    depth = 0
    for place, piece in enumerate(pieces):
        depth += (piece == ("sign", "(")) - (piece == ("sign", ")"))
        if depth == 0:
            return place
    return -1


def _computed(pieces: list[tuple[str, str]]) -> str | None:
    numbers = [fraction_of(text) if kind == "number" else None for kind, text in pieces]
    names = iter(range(len(pieces)))
    text = "".join(
        f"n{place}" if kind == "number" else "**" if sign == "^" else sign
        for place, (kind, sign) in zip(names, pieces, strict=True)
    )
    try:
        result = _computed_node(ast.parse(text, mode="eval").body, numbers)
    except (SyntaxError, ValueError, ZeroDivisionError):
        return None
    return written(result)


def _computed_node(node: ast.expr, numbers: list[Fraction | None]) -> Fraction:
    if isinstance(node, ast.Name):
        number = numbers[int(node.id[1:])]
        if number is None:
            raise ValueError("a number too long to compute with")
        return number
    if isinstance(node, ast.UnaryOp):
        value = _computed_node(node.operand, numbers)
        return -value if isinstance(node.op, ast.USub) else value
    if not isinstance(node, ast.BinOp):
        raise ValueError("no arithmetic")
    left, right = _computed_node(node.left, numbers), _computed_node(node.right, numbers)
    if isinstance(node.op, ast.Pow):
        bits = max(left.numerator.bit_length(), left.denominator.bit_length()) * abs(right)
        if right.denominator != 1 or bits > _MOST_BITS:
            raise ValueError("no power to compute")
        return left ** int(right)
    if isinstance(node.op, ast.Add):
        return left + right
    if isinstance(node.op, ast.Sub):
        return left - right
    return left * right if isinstance(node.op, ast.Mult) else left / right
