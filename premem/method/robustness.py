"""Accuracy that is lost when the prompt is perturbed, by band of pre-memorization accuracy.

The paper puts "First" or "We know that" before the answer and finds that examples with low pre-memorization accuracy
lose more. Compared with the accuracy that was recorded when the score was made, low examples seem to lose even where
nothing was perturbed: they were chosen for a low draw. So a fresh baseline is drawn at the same time.

Shapes: E examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from premem.method.uncertainty import mean_interval

Floats = NDArray[np.float64]

BANDS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
COVERAGE = 0.9


@dataclass(frozen=True, slots=True)
class Drop:
    """Mean accuracy lost in one band."""

    low: float
    high: float
    """Scores from `low` up to and without `high`; the last band holds 1, too."""
    examples: int
    baseline: float | None
    drop: float | None
    """Baseline minus perturbed accuracy; None where the band is empty."""
    interval: tuple[float, float] | None
    """90%, paired bootstrap over examples; None under two examples."""


def drops(
    score_E: Floats,
    baseline_E: Floats,
    perturbed_E: Floats,
    *,
    bands: Sequence[float] = BANDS,
    seed: int = 0,
) -> list[Drop]:
    """One Drop per band. Examples with a NaN in any of the three are left out."""
    known_E = ~(np.isnan(score_E) | np.isnan(baseline_E) | np.isnan(perturbed_E))
    found = []
    for low, high in pairwise(bands):
        last = high == bands[-1]
        within_E = known_E & (score_E >= low) & ((score_E <= high) if last else (score_E < high))
        lost = (baseline_E - perturbed_E)[within_E]
        if not len(lost):
            found.append(Drop(low, high, 0, None, None, None))
            continue
        interval = mean_interval(np.round(lost, 12), coverage=COVERAGE, seed=seed)  # 0.6 - 0.4 is 0.8 - 0.6
        found.append(Drop(low, high, len(lost), float(baseline_E[within_E].mean()), float(lost.mean()), interval))
    return found
