"""A finetuning run as arrays: what calibration, forecast and curation work on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """One run: C checkpoints in the order in which they were saved, E examples that were trained on."""

    name: str
    checkpoints: tuple[str, ...]
    accuracy_CE: Floats
    perplexity_CE: Floats
    samples: int
    """Answers per pair of checkpoint and example."""
    test_accuracy_C: Floats
    """NaN where the test set was not sampled."""
    learning_rate: float | None = None
    untrained_accuracy_C: Floats | None = None
    """Mean accuracy on examples of the same source that the run was not trained on, where there are any."""
    untrained_perplexity_CU: Floats | None = None
    """Of those U examples."""
    row_E: NDArray[np.int64] | None = None
    """Positions of the E examples in their data set; None: all of it, in order."""
    test_examples: int | None = None
    """How many questions the test accuracy is a mean over."""
