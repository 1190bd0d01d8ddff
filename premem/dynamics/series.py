"""Numbers over evaluations: where they start, peak and end, and what is the best so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True)
class Series:
    """Where a column starts, peaks and ends, over evaluations that count from 0."""

    start: float
    end: float
    max: float
    max_at: int
    min: float
    min_at: int


def series(values: ArrayLike) -> Series:
    """Start, end and peaks of T numbers; the first of equal peaks."""
    found = np.asarray(values, dtype=np.float64)
    top, bottom = int(found.argmax()), int(found.argmin())
    return Series(float(found[0]), float(found[-1]), float(found[top]), top, float(found[bottom]), bottom)


def best_so_far(values: Sequence[float]) -> list[int]:
    """For each place, where the largest value up to there stands; the first of equal ones."""
    best: list[int] = []
    for place, value in enumerate(values):
        best.append(place if not best or value > values[best[-1]] else best[-1])
    return best


def twice_in_a_row(fires: Sequence[bool]) -> list[bool]:
    """Which firings come right behind another one."""
    return [now and before for now, before in zip(fires, [False, *fires], strict=False)]
