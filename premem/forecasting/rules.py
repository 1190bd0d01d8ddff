"""Ways to turn a run's training signal into one number per checkpoint and example, by name.

All of them ignore what was answered after memorizing and cap by the accuracy now; they differ in what they take of the
checkpoints before. C checkpoints in order, E examples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from premem.errors import InputError
from premem.forecasting.runs import ScoredRun
from premem.method.memorization import memorized, pre_memorization_accuracies

Floats = NDArray[np.float64]
RuleName = Literal["paper", "latest", "shrunk", "mean"]
RULES: tuple[RuleName, ...] = get_args(RuleName)


def scores(run: ScoredRun, *, memorized_below: float, rule: str = "paper") -> Floats:
    """C × E. Raises InputError, naming those there are, for an unknown rule.

    paper   the best accuracy while unmemorized, capped by the accuracy now (Kang et al. 2024, eq. 3)
    latest  the latest accuracy while unmemorized, capped likewise: no maximum over noisy samples
    shrunk  the paper's, on accuracies drawn towards what the data set makes likely (beta-binomial)
    mean    the mean of `paper` and `latest`
    """
    return scorer(run, rule=rule)(memorized_below)


def scorer(run: ScoredRun, *, rule: str) -> Callable[[float], Floats]:
    """`scores` as a function of the threshold, with whatever does not depend on it done once."""
    accuracy_CE, perplexity_CE = run.accuracy_CE, run.perplexity_CE
    if rule == "paper":
        return lambda below: pre_memorization_accuracies(accuracy_CE, perplexity_CE, memorized_below=below)
    if rule == "latest":
        return lambda below: latest_accuracies(accuracy_CE, perplexity_CE, memorized_below=below)
    if rule == "mean":
        return lambda below: (
            (
                pre_memorization_accuracies(accuracy_CE, perplexity_CE, memorized_below=below)
                + latest_accuracies(accuracy_CE, perplexity_CE, memorized_below=below)
            )
            / 2
        )
    if rule == "shrunk":
        from premem.method.uncertainty import shrunken  # needs scipy, which no other rule does

        correct_CE = np.rint(accuracy_CE * run.samples).astype(np.int64)
        shrunken_CE = shrunken(correct_CE, samples=run.samples)
        return lambda below: pre_memorization_accuracies(shrunken_CE, perplexity_CE, memorized_below=below)
    raise InputError(f"there is no rule named {rule!r}: choose one of {', '.join(RULES)}")


def latest_accuracies(accuracy_CE: Floats, perplexity_CE: Floats, *, memorized_below: float) -> Floats:
    """C × E: the accuracy at the latest checkpoint where the example was unmemorized, capped by the accuracy now."""
    scores_CE = np.empty_like(accuracy_CE)
    latest_E = np.zeros(accuracy_CE.shape[1])
    for c, memorized_E in enumerate(memorized(perplexity_CE, memorized_below=memorized_below)):
        latest_E = np.where(memorized_E, latest_E, accuracy_CE[c])
        scores_CE[c] = np.minimum(latest_E, accuracy_CE[c])
    return scores_CE
