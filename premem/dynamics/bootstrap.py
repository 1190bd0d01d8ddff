"""Intervals by drawing pairs anew: the percentile bootstrap, seeded, whole prompts at a time where prompts repeat.

Shapes: E pairs, F quantities of each pair, G prompts that differ, D resamples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from premem.dynamics.softmax import Floats
from premem.errors import InputError

RESAMPLES = 2000
COVERAGE = 0.95
AT_ONCE = 1_000_000
"""Groups that are counted at once, over resamples."""

Ints = NDArray[np.int64]


def groups_of(clusters: ArrayLike | None, pairs: int) -> Ints:
    """E numbers of groups from 0, equal where `clusters` (ids of prompts, say) are; without any, each pair is its own."""
    if clusters is None:
        return np.arange(pairs)
    found = np.asarray(clusters)
    if found.shape != (pairs,):
        raise InputError(f"there are {pairs} pairs and clusters of shape {found.shape}: give one for each pair")
    group_E: Ints = np.unique(found, return_inverse=True)[1].astype(np.int64)
    return group_E


def resampled_counts(group_E: Ints, *, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Floats]:
    """For each resample, E numbers: how often each pair was drawn, with all others of its group."""
    for count_DG in _drawn(int(group_E.max()) + 1, resamples=resamples, seed=seed):
        for count_G in count_DG:
            yield count_G[group_E]


def _drawn(groups: int, *, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each group was drawn, some resamples (rows) at a time, so that memory holds whatever the groups."""
    chance = np.random.default_rng(seed)
    together = max(1, AT_ONCE // groups)
    for start in range(0, resamples, together):
        rows = min(together, resamples - start)
        drawn_DG = chance.integers(0, groups, (rows, groups)) + groups * np.arange(rows)[:, None]
        yield np.bincount(drawn_DG.ravel(), minlength=rows * groups).reshape(rows, groups).astype(np.float64)


def mean_intervals(
    values_EF: Floats, *, clusters: ArrayLike | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Floats, Floats]:
    """Lower and upper ends (F each) of 95% intervals of the means over pairs.

    Every resample is of the same pairs for all F quantities: they stay paired. Raises InputError under two groups, of
    which no interval can be drawn, and where a value is not finite.
    """
    if values_EF.ndim != 2 or not np.isfinite(values_EF).all():
        raise InputError("a value is NaN or infinite: leave pairs out that were not scored in every family")
    group_E = groups_of(clusters, len(values_EF))
    if len(values_EF) == 0 or group_E.max() == 0:
        raise InputError("an interval needs at least two pairs whose prompts differ")
    groups = int(group_E.max()) + 1
    size_G = np.bincount(group_E, minlength=groups).astype(np.float64)
    sum_GF = np.stack([np.bincount(group_E, weights=column, minlength=groups) for column in values_EF.T], axis=1)
    drawn_DF = np.concatenate(
        [
            count_DG @ sum_GF / (count_DG @ size_G)[:, None]
            for count_DG in _drawn(groups, resamples=resamples, seed=seed)
        ]
    )
    low_F, high_F = np.quantile(drawn_DF, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2], axis=0)
    return low_F, high_F
