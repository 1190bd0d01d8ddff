"""Where the line of memorization is drawn, and how well that line is founded.

premem's only unit is plain perplexity. The authors write the same thresholds on log(log(perplexity)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from premem.errors import InputError
from premem.forecasting.runs import ScoredRun
from premem.method.memorization import pre_memorization_accuracies

Floats = NDArray[np.float64]
Basis = Literal["number", "preset", "quantile", "untrained", "calibration"]
ThresholdFrom = Literal["untrained-part", "never-trained", "first-checkpoint"]
"""Ways to a threshold without a test set, named by what they look at."""

PRESETS: dict[str, tuple[float, str]] = {
    "gsm8k-llama3": (1.1055, "Kang et al. 2024, Llama3 8B on GSM8K: log(log(perplexity)) < -2.3"),
    "math-llama3": (1.2004, "Kang et al. 2024, Llama3 8B on MATH: log(log(perplexity)) < -1.7"),
}
FIRST_CHECKPOINT_QUANTILE = 0.035
"""Of the first checkpoint's mean negative log-likelihoods; found on the authors' recorded runs."""
NEVER_TRAINED_QUANTILE = 0.01
"""Of the mean negative log-likelihoods of examples that a run was not trained on; found likewise."""
CANDIDATES = 200

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


def from_never_trained(runs: Sequence[ScoredRun]) -> Threshold:
    """Under it lie, at no checkpoint, more than 1% of the examples that a run was not trained on.

    What is likelier than those was learnt by heart. Raises InputError where no run has such examples.
    """
    quantiles = [
        np.quantile(np.log(perplexities_U), NEVER_TRAINED_QUANTILE)
        for run in runs
        if run.untrained_perplexity_CU is not None
        for perplexities_U in run.untrained_perplexity_CU
    ]
    if not quantiles:
        raise InputError("no run has examples that it was not trained on, so no threshold can be taken from them")
    return Threshold(
        memorized_below=float(np.exp(min(quantiles))),
        basis="quantile",
        source=f"{NEVER_TRAINED_QUANTILE:.0%} quantile of the negative log-likelihoods of never-trained examples, the "
        "lowest of all checkpoints; no calibration",
    )


def from_untrained_part(runs: Sequence[ScoredRun]) -> Threshold:
    """The threshold whose pre-memorization accuracy best matches the accuracy on the part a run was not trained on.

    That part stands in for a test set: questions of the same source, unseen, with references of their own.
    Raises InputError where no run was trained on a part only.
    """
    parts = [run for run in runs if run.untrained_accuracy_C is not None]
    if not parts:
        raise InputError(
            "no run was trained on a part of its data only, so no untrained part can stand in for a test set"
        )
    thresholds_T = candidates(np.concatenate([run.perplexity_CE.ravel() for run in parts]))
    error_T = np.zeros(len(thresholds_T))
    for run in parts:
        for place, below in enumerate(thresholds_T):
            scores_CE = pre_memorization_accuracies(run.accuracy_CE, run.perplexity_CE, memorized_below=float(below))
            error_T[place] += np.square(np.nanmean(scores_CE, axis=1) - run.untrained_accuracy_C).sum()
    return Threshold(
        memorized_below=float(thresholds_T[error_T.argmin()]),
        basis="untrained",
        source=f"best match to the accuracy on the untrained part of {', '.join(run.name for run in parts)}; "
        "no calibration",
    )


def without_labels(name: ThresholdFrom, runs: Sequence[ScoredRun]) -> Threshold:
    """A threshold that needs no test set. Raises InputError where the runs do not hold what it is taken from."""
    if name == "untrained-part":
        return from_untrained_part(runs)
    if name == "never-trained":
        return from_never_trained(runs)
    return from_first_checkpoint(np.concatenate([run.perplexity_CE[0] for run in runs]))


def candidates(perplexities: Floats) -> Floats:
    """Thresholds between the likeliest and the unlikeliest traces, evenly spaced in log(log(perplexity)).

    NaN is left out. Raises InputError where all perplexities are the same.
    """
    nll = np.log(perplexities[~np.isnan(perplexities)])
    low, high = np.quantile(nll, [0.01, 0.95]) if nll.size else (0.0, 0.0)
    if not high > low:
        raise InputError("all perplexities are the same: no threshold can tell memorized examples from others")
    thresholds_T: Floats = np.exp(np.geomspace(max(low, 1e-4), high, CANDIDATES))
    return thresholds_T


def resolve(memorized_below: float | str) -> Threshold:
    """A number, or the name of a preset. Raises KeyError for an unknown name."""
    if isinstance(memorized_below, str):
        value, source = PRESETS[memorized_below]
        return Threshold(memorized_below=value, basis="preset", source=source)
    return Threshold(memorized_below=memorized_below, basis="number", source="given with the job")
