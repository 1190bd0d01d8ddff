"""How certain a score is. Five samples say little about one example, but the whole data set says what to expect.

At each checkpoint, the true accuracy p of an example is modelled as a draw from Beta(a, b), which is fitted to the whole
data set (empirical Bayes). With c right answers of k, the posterior is Beta(a + c, b + k − c). The posteriors of different
checkpoints are treated as independent.

Shapes: C checkpoints, E examples, k samples per pair at most, U counts (right, drawn) that differ, P patterns of such
counts over the checkpoints, G points of a grid on [0, 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from premem.extras import brought_by

with brought_by("method"):
    from scipy import optimize, special

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GRID = 100
"""The ends of intervals are hundredths, rounded outwards: two digits show them as they are."""


def fit_beta_binomial(correct_E: Ints, *, samples: int, drawn_E: Ints | None = None) -> tuple[float, float]:
    """a and b of the Beta distribution for which these counts are most likely.

    `drawn_E` says how many answers each example has (None: `samples`). Which answers were not drawn depends only on those
    that were, so the likelihood leaves them out. If all counts are the same, or there is one sample per example, the spread
    between examples is unknown; it is then taken as zero (a + b at its upper bound). If nothing was drawn, every accuracy is
    equally likely.
    """
    drawn_E = np.full(len(correct_E), samples) if drawn_E is None else drawn_E
    code_U, times_U = np.unique(drawn_E * (samples + 1) + correct_E, return_counts=True)
    drawn_U, correct_U = np.divmod(code_U, samples + 1)
    answers = float(times_U @ drawn_U)
    if answers == 0:
        return 1.0, 1.0

    def negative_log_likelihood(logs: Floats) -> float:
        a, b = np.exp(logs)
        log_U = special.betaln(a + correct_U, b + drawn_U - correct_U) - special.betaln(a, b)
        return -float(times_U @ log_U) / float(times_U.sum())

    mean = float(np.clip(float(times_U @ correct_U) / answers, 0.01, 0.99))
    if drawn_U.max() == 1:
        return mean * 1e3, (1 - mean) * 1e3
    start = np.log([mean, 1 - mean])
    found = optimize.minimize(negative_log_likelihood, start, method="L-BFGS-B", bounds=[(-7.0, 7.0)] * 2)
    a, b = np.exp(found.x)
    return float(a), float(b)


def shrunken(correct_CE: Ints, *, samples: int) -> Floats:
    """C × E accuracies, shrunk towards what is likely in the data set: the posterior means."""
    shrunken_CE = np.empty(correct_CE.shape)
    for c, correct_E in enumerate(correct_CE):
        a, b = fit_beta_binomial(correct_E, samples=samples)
        shrunken_CE[c] = (correct_E + a) / (samples + a + b)
    return shrunken_CE


def score_intervals(
    score_E: Floats,
    correct_CE: Ints,
    memorized_CE: NDArray[np.bool_],
    *,
    samples: int,
    drawn_CE: Ints | None = None,
    coverage: float = 0.9,
) -> tuple[Floats, Floats]:
    """Lower and upper end, each of length E, of an interval for every pre-memorization accuracy in `score_E`.

    It is the shortest interval that contains the score and `coverage` of the posterior. The posterior is exact under the
    model above: with F_m the posterior distribution at checkpoint m, M the unmemorized checkpoints, and l the last one,
    P(score > s) = (1 − F_l(s)) · (1 − Π_M F_m(s)), or 1 − F_l(s) if l itself is unmemorized. An example that is memorized at
    every checkpoint scores 0 whatever was sampled, so its interval is [0, 0]. `drawn_CE` says how many answers each count
    has, if not all `samples` were drawn; without any, the posterior is the prior.
    """
    grid_G = np.arange(GRID + 1) / GRID
    log_below_CUG: list[Floats] = []
    place_CE = np.empty(correct_CE.shape, np.int64)
    for c, correct_E in enumerate(correct_CE):
        drawn_E = np.full(len(correct_E), samples) if drawn_CE is None else drawn_CE[c]
        a, b = fit_beta_binomial(correct_E, samples=samples, drawn_E=drawn_E)
        code_U, place_CE[c] = np.unique(drawn_E * (samples + 1) + correct_E, return_inverse=True)
        drawn_U, correct_U = np.divmod(code_U, samples + 1)
        with np.errstate(divide="ignore"):
            log_below_CUG.append(
                np.log(special.betainc(a + correct_U[:, None], b + (drawn_U - correct_U)[:, None], grid_G))
            )
    pattern_EC = np.where(memorized_CE, -1, place_CE).T
    first_P, pattern_E = _patterns(score_E, pattern_EC, place_CE[-1])
    low_P, high_P = np.empty(len(first_P)), np.empty(len(first_P))
    for start in range(0, len(first_P), 4096):
        part = first_P[start : start + 4096]
        below_PG = 1 - _exceeds(log_below_CUG, pattern_EC[part], place_CE[-1][part])
        low, high = _shortest(below_PG, score_E[part], grid_G, coverage=coverage)
        low_P[start : start + 4096], high_P[start : start + 4096] = grid_G[low], grid_G[high]
    never_P = (pattern_EC[first_P] < 0).all(axis=1)
    low_P[never_P] = high_P[never_P] = score_E[first_P][never_P]
    return low_P[pattern_E], high_P[pattern_E]


def _patterns(score_E: Floats, pattern_EC: Ints, last_E: Ints) -> tuple[Ints, Ints]:
    """The first example of every pattern, and the pattern of every example. Few samples give few patterns, each computed once."""
    columns = [pattern_EC[:, c] + 1 for c in range(pattern_EC.shape[1])]
    columns += [last_E, np.unique(score_E, return_inverse=True)[1]]
    sizes = [int(column.max(initial=0)) + 1 for column in columns]
    if np.prod(sizes, dtype=np.float64) >= 2**62:
        return np.arange(len(score_E)), np.arange(len(score_E))
    key_E = np.zeros(len(score_E), dtype=np.int64)
    for column, size in zip(columns, sizes, strict=True):
        key_E = key_E * size + column
    _, first_P, pattern_E = np.unique(key_E, return_index=True, return_inverse=True)
    return first_P, pattern_E


def _shortest(below_PG: Floats, score_P: Floats, grid_G: Floats, *, coverage: float) -> tuple[Ints, Ints]:
    """Where the shortest intervals with `coverage` and the score begin and end on the grid. Of equally short ones, the one
    with the most probability."""
    from_P1 = np.searchsorted(grid_G, score_P, side="right")[:, None] - 1
    to_P1 = np.searchsorted(grid_G, score_P, side="left")[:, None]
    begin_G = np.arange(GRID + 1)

    def best(width_P: Ints) -> tuple[Floats, Ints]:
        """The most that an interval as wide and around the score holds, and where it begins."""
        end_PG = begin_G + width_P[:, None]
        held_PG = np.take_along_axis(below_PG, np.minimum(end_PG, GRID), axis=1) - below_PG
        held_PG[(begin_G > from_P1) | (end_PG < to_P1) | (end_PG > GRID)] = -1.0
        return held_PG.max(axis=1), held_PG.argmax(axis=1)

    # What is wide enough stays so when it is widened: the width is found by halving.
    short_P, enough_P = np.full(len(score_P), -1), np.full(len(score_P), GRID)
    while (enough_P - short_P > 1).any():
        width_P = (short_P + enough_P) // 2
        holds_P = best(width_P)[0] >= coverage
        short_P, enough_P = np.where(holds_P, short_P, width_P), np.where(holds_P, width_P, enough_P)
    low_P = best(enough_P)[1]
    return low_P, low_P + enough_P


def _exceeds(log_below_CUG: list[Floats], pattern_PC: Ints, last_P: Ints) -> Floats:
    """P(score > s) for every pattern and every s of the grid."""
    log_best_below_PG = np.zeros((len(pattern_PC), GRID + 1))
    for c, table_UG in enumerate(log_below_CUG):
        counted = pattern_PC[:, c] >= 0
        log_best_below_PG[counted] += table_UG[pattern_PC[counted, c]]
    best_exceeds_PG = -np.expm1(log_best_below_PG)
    last_exceeds_PG = -np.expm1(log_below_CUG[-1][last_P])
    unmemorized_P1 = (pattern_PC[:, -1] >= 0)[:, None]
    return np.where(unmemorized_P1, last_exceeds_PG, last_exceeds_PG * best_exceeds_PG)


def mean_interval(
    values_E: Floats, *, coverage: float = 0.9, draws: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """An interval for the mean, by a bootstrap over examples. None for fewer than two examples.

    It draws how often each distinct value occurs, which is the same bootstrap. Shares of a few samples have few distinct
    values, so the time does not grow with the number of examples.
    """
    if len(values_E) < 2:
        return None
    values_U, times_U = np.unique(values_E, return_counts=True)
    drawn_DU = np.random.default_rng(seed).multinomial(len(values_E), times_U / len(values_E), size=draws)
    low, high = np.quantile(drawn_DU @ values_U / len(values_E), [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)
