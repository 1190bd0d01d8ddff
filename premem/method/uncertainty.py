"""How sure a score is: five samples say little of one example, and the data set says something of what to expect.

At each checkpoint an example's true accuracy p is taken as a draw from Beta(a, b), fitted to the whole data set
(empirical Bayes), so that c right answers of k leave the posterior Beta(a + c, b + k − c). Posteriors of different
checkpoints are taken as independent.

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
    """a and b of the Beta distribution under which these counts are likeliest.

    `drawn_E`: how many answers each count is of; None: `samples`. What was left undrawn by the plan says nothing of its
    outcome beyond what was drawn, so it is left out of the likelihood. Of counts that are all the same, or with one
    sample per example, nothing can be said of the spread between examples: then the spread is taken as none (a + b at its
    upper bound). Where nothing was drawn every accuracy is as likely as the next.
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
    """C × E accuracies drawn towards what the data set makes likely: the posterior means."""
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

    The shortest one that holds both the score and `coverage` of the posterior under the model above, which is exact:
    with F_m the posterior distribution at checkpoint m, M the unmemorized checkpoints and the last one l,
    P(score > s) = (1 − F_l(s)) · (1 − Π_M F_m(s)), or 1 − F_l(s) where l itself is unmemorized. An example that was
    memorized at every checkpoint scores 0 whatever was sampled: its interval is [0, 0]. `drawn_CE`: how many answers each
    count is of, where not all `samples` were drawn; of none, the posterior is the prior.
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
    """The first example of every pattern, and every example's pattern: few samples make few, each worked out once."""
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
    """Where on the grid the shortest intervals with `coverage` and the score begin and end; of equally short ones, the
    one that holds most."""
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
