"""Memorization and pre-memorization accuracy (Kang et al. 2024, arXiv 2411.07681, section 4).

Each quantity stands here twice: for one example, to be read beside the paper, and over arrays,
for millions of examples. The first form is the oracle that the tests hold the second one to.

Shapes: C checkpoints in the order in which they were saved, E examples; `accuracy_CE` is C × E.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from premem.errors import EmptyHistory
from premem.records import Observation

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def is_memorized(perplexity: float, *, memorized_below: float) -> bool:
    """Whether a model knows a reference trace by heart: perplexity under the threshold, not at it."""
    return perplexity < memorized_below


def pre_memorization_accuracy(history: Sequence[Observation], *, memorized_below: float) -> float:
    """The best accuracy reached while unmemorized, capped by accuracy now (Kang et al. 2024, eq. 3).

    `history` holds one observation per checkpoint, in order; the last one is now.
    Raises EmptyHistory where there is no checkpoint.
    """
    if not history:
        raise EmptyHistory("no checkpoint has been scored: there is no accuracy to speak of")
    unmemorized = [
        seen.accuracy for seen in history if not is_memorized(seen.perplexity, memorized_below=memorized_below)
    ]
    return min(max(unmemorized, default=0.0), history[-1].accuracy)


def memorized(perplexity_CE: Floats, *, memorized_below: float) -> Bools:
    """C × E: where the trace is known by heart (`is_memorized` over arrays)."""
    return np.less(perplexity_CE, memorized_below)


def pre_memorization_accuracies(accuracy_CE: Floats, perplexity_CE: Floats, *, memorized_below: float) -> Floats:
    """C × E: `pre_memorization_accuracy` as it stood at every checkpoint; the last row is now.

    A pair that nobody sampled or scored is NaN in both arrays. A NaN perplexity or accuracy makes the
    example's value NaN from that checkpoint on: an unknown accuracy is not 0.
    Raises EmptyHistory where C is 0, ValueError where the shapes differ.
    """
    if accuracy_CE.shape != perplexity_CE.shape or accuracy_CE.ndim != 2:
        raise ValueError(
            f"accuracies {accuracy_CE.shape} and perplexities {perplexity_CE.shape} must both be checkpoints × examples"
        )
    if accuracy_CE.shape[0] == 0:
        raise EmptyHistory("no checkpoint has been scored: there is no accuracy to speak of")
    unknown_CE = np.isnan(accuracy_CE) | np.isnan(perplexity_CE)
    counted_CE = np.where(memorized(perplexity_CE, memorized_below=memorized_below), 0.0, accuracy_CE)
    counted_CE[unknown_CE] = np.nan  # NaN spreads through maximum.accumulate, as it should
    best_CE = np.maximum.accumulate(counted_CE, axis=0)
    scores_CE: Floats = np.minimum(best_CE, accuracy_CE)
    return scores_CE
