"""Settings that several graders share: where people differ on what counts as equal."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

Percent = Annotated[
    Literal["unit", "share", "either"],
    Field(description='"unit": 28% is 28. "share": 28% is 0.28. "either": it is both.'),
]
Units = Annotated[
    Literal["ignored", "compared"],
    Field(description='"ignored": 3 m and 3 cm are equal. "compared": they are not; a missing unit fits any.'),
]
Rounding = Annotated[
    int | None,
    Field(ge=0, le=30, description="Decimals to which both numbers are rounded before they are compared."),
]


def equal_numbers(one: Fraction, other: Fraction, rounding: int | None) -> bool:
    """Halves are rounded to the even digit, as everywhere in Python."""
    return one == other if rounding is None else round(one, rounding) == round(other, rounding)


def shares(value: Fraction, *, is_percent: bool, percent: str) -> set[Fraction]:
    """What the number may stand for, with a percent sign or without."""
    if not is_percent or percent == "unit":
        return {value}
    return {value / 100} if percent == "share" else {value, value / 100}
