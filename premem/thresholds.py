"""Where the line of memorization is drawn, and how well that line is founded.

premem's only unit is plain perplexity. The authors write the same thresholds on log(log(perplexity)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Basis = Literal["number", "preset", "quantile"]

PRESETS: dict[str, tuple[float, str]] = {
    "gsm8k-llama3": (1.1055, "Kang et al. 2024, Llama3 8B on GSM8K: log(log(perplexity)) < -2.3"),
    "math-llama3": (1.2004, "Kang et al. 2024, Llama3 8B on MATH: log(log(perplexity)) < -1.7"),
}
FIRST_CHECKPOINT_QUANTILE = 0.035
"""Of the first checkpoint's mean negative log-likelihoods; found on the authors' recorded runs."""

NEEDS_CALIBRATION = (
    "The mean pre-memorization accuracy is not a forecast of test accuracy until the threshold is calibrated "
    "on several runs of this model and task."
)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold with what it rests on."""

    memorized_below: float
    """Perplexity."""
    basis: Basis
    source: str


def from_first_checkpoint(perplexities_E: NDArray[np.float64]) -> Threshold:
    """A stand-in where nothing better is known: under it lie 3.5% of the examples at the first checkpoint.

    NaN (examples that were not scored) is left out. Raises ValueError where nothing is left.
    """
    known = perplexities_E[~np.isnan(perplexities_E)]
    if known.size == 0:
        raise ValueError("no example was scored at the first checkpoint, so no threshold can be taken from it")
    nll = float(np.quantile(np.log(known), FIRST_CHECKPOINT_QUANTILE))
    return Threshold(
        memorized_below=float(np.exp(nll)),
        basis="quantile",
        source=f"{FIRST_CHECKPOINT_QUANTILE:.1%} quantile of the first checkpoint's negative log-likelihoods; no calibration",
    )


def resolve(memorized_below: float | str) -> Threshold:
    """A number, or the name of a preset. Raises KeyError for an unknown name."""
    if isinstance(memorized_below, str):
        value, source = PRESETS[memorized_below]
        return Threshold(memorized_below=value, basis="preset", source=source)
    return Threshold(memorized_below=memorized_below, basis="number", source="given with the job")
