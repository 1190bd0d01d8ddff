"""Which pairs are at risk before training, and how well each score of it has done on the pairs at hand.

No score is universal: the same one that ranks real preference pairs is worse than chance in other settings. So a list by
risk stands beside its AUC on the job's own pairs as soon as two checkpoints are there. Shapes: E pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from premem.dynamics.bootstrap import COVERAGE, RESAMPLES, groups_of, resampled_counts
from premem.dynamics.softmax import Floats
from premem.errors import InputError

DEFAULT = "log_ratio"
UNPROVEN_BELOW = 0.60
"""AUC under which a ranking is called unproven: what was measured (`fell`) is the order then."""


def scores(
    *,
    chosen_sum: ArrayLike,
    rejected_sum: ArrayLike,
    tokens_chosen: ArrayLike,
    tokens_rejected: ArrayLike,
    argmax_sum: ArrayLike | None = None,
    chosen: Sequence[str] | None = None,
    rejected: Sequence[str] | None = None,
) -> dict[str, Floats]:
    """E numbers for each score; higher is riskier. From the reference's sums s_0 and numbers of tokens n.

    | score | what it is | AUC on the authors' four DPO runs |
    | --- | --- | --- |
    | `log_ratio` (default) | s_0⁺ − s_0⁻ | .82 .61 .68 .70 |
    | `length_gap` | n⁻ − n⁺ | .80 .60 .66 .69 |
    | `chosen_sum` | s_0⁺: short, likely chosen answers | .63 .67 .65 .74 |
    | `valley_gap` | (argmax − s_0⁺)/n⁺, with `argmax_sum` | .63 .64 .57 .66 |
    | `word_overlap` | Jaccard index of the words of both texts, with `chosen` and `rejected` | .51 .42 .50 .42 |
    | `rejected_mean` | s_0⁻/n⁻, kept to show that it is chance | .62 .43 .56 .45 |
    """
    s_chosen, s_rejected, n_chosen, n_rejected = (
        np.asarray(part, dtype=np.float64) for part in (chosen_sum, rejected_sum, tokens_chosen, tokens_rejected)
    )
    found: dict[str, Floats] = {
        "log_ratio": s_chosen - s_rejected,
        "length_gap": n_rejected - n_chosen,
        "chosen_sum": s_chosen,
        "rejected_mean": s_rejected / n_rejected,
    }
    if argmax_sum is not None:
        found["valley_gap"] = (np.asarray(argmax_sum, dtype=np.float64) - s_chosen) / n_chosen
    if chosen is not None and rejected is not None:
        found["word_overlap"] = np.array([_overlap(one, other) for one, other in zip(chosen, rejected, strict=True)])
    pairs = len(s_chosen)
    for name, values in found.items():
        if values.shape != (pairs,) or not np.isfinite(values).all():
            raise InputError(f"{name} needs one finite number for each of the {pairs} pairs, and answers with a token")
    return found


def _overlap(one: str, other: str) -> float:
    left, right = set(one.split()), set(other.split())
    return len(left & right) / len(left | right) if left | right else 0.0


@dataclass(frozen=True, slots=True)
class Record:
    """How well a score told the pairs whose chosen answer fell from the others."""

    name: str
    auc: float | None
    """Chance that a pair that fell has the higher score than one that did not; None where all fell, or none."""
    low: float | None
    high: float | None
    """None where no resample holds both, too."""

    @property
    def unproven(self) -> bool:
        return self.auc is None or self.auc < UNPROVEN_BELOW


def records(
    found: Mapping[str, ArrayLike],
    change_chosen: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Record]:
    """The record of each score on a job's own pairs, best first; `change_chosen`: E, below 0 is a fall."""
    fell_E = np.asarray(change_chosen, dtype=np.float64) < 0
    judged = [
        record(name, values, fell_E, clusters=clusters, resamples=resamples, seed=seed)
        for name, values in found.items()
    ]
    return sorted(judged, key=lambda one: -1.0 if one.auc is None else one.auc, reverse=True)


def record(
    name: str,
    values: ArrayLike,
    fell: NDArray[np.bool_],
    *,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Record:
    """AUC of one score with its 95% interval: bootstrap over pairs, over prompts where `clusters` names repeated ones."""
    score_E = np.asarray(values, dtype=np.float64)
    if score_E.shape != fell.shape or not len(fell):
        raise InputError(f"{name} has the shape {score_E.shape} and {fell.shape} pairs fell or not: one score each")
    whole = _auc(_Ranked(score_E, fell), np.ones(len(fell)))
    if whole is None:
        return Record(name, None, None, None)
    ranked = _Ranked(score_E, fell)
    counts = resampled_counts(groups_of(clusters, len(fell)), resamples=resamples, seed=seed)
    # A resample without a fall, or with nothing else, says nothing.
    drawn = [auc for count_E in counts if (auc := _auc(ranked, count_E)) is not None]
    if not drawn:
        return Record(name, whole, None, None)
    low, high = np.quantile(drawn, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Record(name, whole, float(low), float(high))


class _Ranked:
    """Pairs in the order of their scores, equal ones in one bin."""

    def __init__(self, score_E: Floats, fell_E: NDArray[np.bool_]) -> None:
        self.fell_E = fell_E
        self.bin_E = np.unique(score_E, return_inverse=True)[1]
        self.bins = int(self.bin_E.max()) + 1


def _auc(ranked: _Ranked, count_E: Floats) -> float | None:
    """Σ over bins of fallen · (others below + half of the others beside), over fallen · others."""
    fallen = np.bincount(ranked.bin_E, weights=count_E * ranked.fell_E, minlength=ranked.bins)
    others = np.bincount(ranked.bin_E, weights=count_E * ~ranked.fell_E, minlength=ranked.bins)
    total = fallen.sum() * others.sum()
    if not total:
        return None
    return float(fallen @ (np.cumsum(others) - others / 2) / total)
