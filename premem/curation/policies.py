"""Which examples to hand back, by which policy, and in which order.

Later papers dispute that the hardest examples are the best ones, so policies are named and compared, not assumed, and
each comes with a random control of equal size.

Shapes: C checkpoints in order, E examples. Positions count the examples of the data set from 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from premem.errors import InputError

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
PolicyName = Literal["lowest", "band", "variance", "mean", "random"]
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)

TIE_ORDER = (
    "pre-memorization accuracy, lowest first",
    "mean accuracy over all checkpoints, memorized or not, lowest first",
    "perplexity of the reference at the first checkpoint, highest first",
    "position in the data set",
)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a policy chose."""

    positions: Positions
    """Best first, at most as many as the budget."""
    qualified: int
    """How many the policy would have chosen without a budget."""
    control: Positions
    """As many, drawn at random from all scored examples: what the choice is to be compared with."""
    notes: tuple[str, ...]


def rank(score_E: Floats, accuracy_CE: Floats, perplexity_CE: Floats) -> Positions:
    """Positions of the examples from hardest to easiest, ties broken as in TIE_ORDER.

    Examples without a score (NaN: they were skipped) are left out. With few samples most ties are real:
    on MATH three quarters of the authors' scores are exactly 0, and the mean over checkpoints tells them apart best. Where
    not all answers were drawn that mean is nobody's, and the next key decides.
    """
    return _ordered(score_E, mean_accuracies(score_E, accuracy_CE), perplexity_CE[0])


def mean_accuracies(score_E: Floats, accuracy_CE: Floats) -> Floats:
    """Over all checkpoints, of length E; NaN throughout where an example with a score lacks one of its accuracies."""
    mean_E: Floats = accuracy_CE.mean(axis=0)
    return np.full_like(mean_E, np.nan) if np.isnan(mean_E[~np.isnan(score_E)]).any() else mean_E


def tie_order(*, means: bool) -> list[str]:
    """TIE_ORDER, without the mean accuracies where they are not known."""
    return [key for key in TIE_ORDER if means or not key.startswith("mean accuracy")]


def select(
    policy: str,
    score_E: Floats,
    accuracy_CE: Floats,
    perplexity_CE: Floats,
    *,
    below: float = 0.5,
    above: float = 0.0,
    budget: int | None = None,
    seed: int = 0,
) -> Selection:
    """Choose examples by a policy's name.

    lowest    score under `below`, lowest first (the paper's Algorithm 1)
    band      score of at least `above` and under `below`, lowest first: hard, but within reach
    variance  all, by s(1 − s) of the score s, highest first: where the model is least settled
    mean      mean accuracy over all checkpoints under `below`, lowest first: unmasked, and often the better ranking
    random    all, in the order of a draw

    Ties within a policy are broken as in TIE_ORDER. Raises InputError for an unknown name, a threshold outside of
    [0, 1] or a budget under 1.
    """
    if not 0.0 <= above <= below <= 1.0:
        raise InputError(f"0 <= above <= below <= 1 must hold; above is {above}, below {below}")
    if budget is not None and budget < 1:
        raise InputError(f"a budget is at least 1, not {budget}")
    mean_E, first_E = accuracy_CE.mean(axis=0), perplexity_CE[0]
    scored = np.flatnonzero(~np.isnan(score_E))
    random = np.random.default_rng(seed)
    if policy == "lowest":
        chosen = _ordered(np.where(score_E < below, score_E, np.nan), mean_E, first_E)
    elif policy == "band":
        within_E = (score_E >= above) & (score_E < below)
        chosen = _ordered(np.where(within_E, score_E, np.nan), mean_E, first_E)
    elif policy == "variance":
        chosen = _ordered(-score_E * (1 - score_E), mean_E, first_E)
    elif policy == "mean":
        if np.isnan(mean_E[scored]).any():
            raise InputError(
                "the policy 'mean' needs the accuracy at every checkpoint, and the job drew only what its scores needed: "
                "score with the trajectory 'everything', or choose another policy"
            )
        chosen = _ordered(np.where(np.isnan(score_E) | (mean_E >= below), np.nan, mean_E), score_E, first_E)
    elif policy == "random":
        chosen = random.permutation(scored)
    else:
        raise InputError(f"there is no policy named {policy!r}: choose one of {', '.join(POLICIES)}")
    kept = chosen[:budget]
    notes = []
    if not scored.size:
        notes.append("no example has a score")
    elif not chosen.size:
        notes.append(f"no example qualified for {policy!r}")
    if budget is not None and 0 < chosen.size < budget:
        notes.append(f"{chosen.size} examples qualified, fewer than the budget of {budget}: all of them are here")
    control = np.random.default_rng([seed, 1]).permutation(scored)[: len(kept)]
    return Selection(kept, len(chosen), control, tuple(notes))


def sampling_weights(score_E: Floats, *, floor: float = 0.1) -> Floats:
    """Weights of length E that sum to 1, for a `WeightedRandomSampler`: 1 − score, and never under `floor` of that.

    Examples without a score get the mean weight, so that they are neither favoured nor lost. Raises InputError for a
    floor outside of (0, 1].
    """
    if not 0.0 < floor <= 1.0:
        raise InputError(f"the floor of a weight lies in (0, 1], not at {floor}")
    weight_E = np.maximum(1 - score_E, floor)
    known_E = ~np.isnan(weight_E)
    weight_E[~known_E] = weight_E[known_E].mean() if known_E.any() else 1.0
    normed_E: Floats = weight_E / weight_E.sum()
    return normed_E


def _ordered(key_E: Floats, then_E: Floats, highest_E: Floats) -> Positions:
    """Positions by the keys, NaN of the first one left out; the sort is stable, so position breaks what is left."""
    order = np.lexsort((-highest_E, then_E, key_E))
    ordered: Positions = order[~np.isnan(key_E[order])].astype(np.int64)
    return ordered
