"""How sure a score is: five samples say little of one example, and the data set says something of what to expect.

At each checkpoint an example's true accuracy p is taken as a draw from Beta(a, b), fitted to the whole data set
(empirical Bayes), so that c right answers of k leave the posterior Beta(a + c, b + k − c). Posteriors of different
checkpoints are taken as independent.

Shapes: C checkpoints, E examples, k samples per pair, K = k + 1 possible counts, G points of a grid on [0, 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GRID = 200
"""Intervals are found on a grid of this many steps."""


def fit_beta_binomial(correct_E: Ints, *, samples: int) -> tuple[float, float]:
    """a and b of the Beta distribution under which these counts are likeliest.

    Of counts that are all the same, or with one sample per example, nothing can be said of the spread between
    examples: then the spread is taken as none (a + b at its upper bound).
    """
    times_K = np.bincount(correct_E, minlength=samples + 1).astype(np.float64)
    counts_K = np.arange(samples + 1)

    def negative_log_likelihood(logs: Floats) -> float:
        a, b = np.exp(logs)
        log_K = special.betaln(a + counts_K, b + samples - counts_K) - special.betaln(a, b)
        return -float(times_K @ log_K) / max(1.0, float(times_K.sum()))

    mean = float(np.clip((times_K @ counts_K) / max(1.0, times_K.sum() * samples), 0.01, 0.99))
    if samples == 1:
        return mean * 1e3, (1 - mean) * 1e3
    start = np.log([mean, 1 - mean])
    found = optimize.minimize(negative_log_likelihood, start, method="L-BFGS-B", bounds=[(-7.0, 7.0)] * 2)
    a, b = np.exp(found.x)
    return float(a), float(b)


def shrunken(correct_CE: Ints, *, samples: int) -> Floats:
    """C × E accuracies drawn towards what the data set makes likely: the posterior means."""
    shrunken_CE = np.empty(correct_CE.shape)
    for c, correct_E in enumerate(correct_CE):
        a, b = fit_beta_binomial(correct_E, samples=samples)
        shrunken_CE[c] = (correct_E + a) / (samples + a + b)
    return shrunken_CE


def score_intervals(
    correct_CE: Ints, memorized_CE: NDArray[np.bool_], *, samples: int, coverage: float = 0.9
) -> tuple[Floats, Floats]:
    """Lower and upper end, each of length E, of an interval for every pre-memorization accuracy.

    Exact under the model above: with F_m the posterior distribution at checkpoint m, M the unmemorized checkpoints and
    the last one l, P(score > s) = (1 − F_l(s)) · (1 − Π_M F_m(s)), or 1 − F_l(s) where l itself is unmemorized. An
    example that was memorized at every checkpoint scores 0 whatever was sampled: its interval is [0, 0].
    """
    checkpoints, _ = correct_CE.shape
    grid_G = np.linspace(0.0, 1.0, GRID + 1)
    log_below_CKG = np.empty((checkpoints, samples + 1, GRID + 1))
    counts_K1 = np.arange(samples + 1)[:, None]
    for c, correct_E in enumerate(correct_CE):
        a, b = fit_beta_binomial(correct_E, samples=samples)
        with np.errstate(divide="ignore"):
            log_below_CKG[c] = np.log(special.betainc(a + counts_K1, b + samples - counts_K1, grid_G))
    # Few samples make few patterns: each is worked out once.
    pattern_EC = np.where(memorized_CE, -1, correct_CE).T
    key_E = np.zeros(len(pattern_EC), dtype=np.int64)
    if (samples + 2.0) ** (checkpoints + 1) < 2**62:
        for c in range(checkpoints):
            key_E = key_E * (samples + 2) + pattern_EC[:, c] + 1
        key_E = key_E * (samples + 2) + correct_CE[-1] + 1
        _, first, inverse = np.unique(key_E, return_index=True, return_inverse=True)
    else:
        first = inverse = np.arange(len(pattern_EC))
    low_U, high_U = np.empty(len(first)), np.empty(len(first))
    tail = (1 - coverage) / 2
    for start in range(0, len(first), 4096):
        part = slice(start, start + 4096)
        exceeds_UG = _exceeds(log_below_CKG, pattern_EC[first[part]], correct_CE[-1][first[part]])
        # P(score > s) falls with s: the ends are where it passes 1 − tail and tail.
        low_U[part] = grid_G[np.maximum((exceeds_UG >= 1 - tail).sum(axis=1) - 1, 0)]
        high_U[part] = grid_G[np.minimum((exceeds_UG > tail).sum(axis=1), GRID)]
    never_U = (pattern_EC[first] < 0).all(axis=1)
    low_U[never_U] = high_U[never_U] = 0.0
    return low_U[inverse], high_U[inverse]


def _exceeds(log_below_CKG: Floats, pattern_UC: Ints, last_U: Ints) -> Floats:
    """P(score > s) for every pattern and every s of the grid."""
    log_best_below_UG = np.zeros((len(pattern_UC), log_below_CKG.shape[2]))
    for c, table_KG in enumerate(log_below_CKG):
        counted = pattern_UC[:, c] >= 0
        log_best_below_UG[counted] += table_KG[pattern_UC[counted, c]]
    best_exceeds_UG = -np.expm1(log_best_below_UG)
    last_exceeds_UG = -np.expm1(log_below_CKG[-1][last_U])
    unmemorized_U1 = (pattern_UC[:, -1] >= 0)[:, None]
    return np.where(unmemorized_U1, last_exceeds_UG, last_exceeds_UG * best_exceeds_UG)


def mean_interval(
    values_E: Floats, *, coverage: float = 0.9, draws: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """Of the mean, by a bootstrap over examples; None under two of them.

    Counts of equal values are drawn, not values: that is the same bootstrap, and does not grow with the examples where
    the values are shares of a few samples.
    """
    if len(values_E) < 2:
        return None
    values_U, times_U = np.unique(values_E, return_counts=True)
    drawn_DU = np.random.default_rng(seed).multinomial(len(values_E), times_U / len(values_E), size=draws)
    low, high = np.quantile(drawn_DU @ values_U / len(values_E), [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)
