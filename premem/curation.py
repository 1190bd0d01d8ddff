"""Which examples to hand back, and in which order.

Shapes: C checkpoints in order, E examples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TIE_ORDER = (
    "pre-memorization accuracy, lowest first",
    "mean accuracy over all checkpoints, memorized or not, lowest first",
    "perplexity of the reference at the first checkpoint, highest first",
    "position in the data set",
)


def rank(score_E: Floats, accuracy_CE: Floats, perplexity_CE: Floats) -> NDArray[np.int64]:
    """Positions of the examples from hardest to easiest, ties broken as in TIE_ORDER.

    Examples without a score (NaN: they were skipped) are left out. With few samples most ties are real:
    on MATH three quarters of the authors' scores are exactly 0, and the mean over checkpoints tells them apart best.
    """
    mean_E = accuracy_CE.mean(axis=0)
    order = np.lexsort((-perplexity_CE[0], mean_E, score_E))  # stable: position breaks what is left
    ranked: NDArray[np.int64] = order[~np.isnan(score_E[order])]
    return ranked
