"""Which 90% intervals contain their scores, how often they cover the true pre-memorization accuracy, and how wide they are.

    python -m benchmarks.intervals [../shared/data/recorded-runs]

The truth is known in three ways. Of simulated examples it is drawn from Beta distributions. Of a test question with 50 recorded answers the share of right ones is taken as its
accuracy; whether it is memorized at a checkpoint is taken from a training example drawn at random. Of a training example
its accuracies are drawn from the posterior that its five recorded answers leave, and it keeps its own perplexities. Five
answers are then drawn anew, and intervals made from them alone. Examples that were memorized throughout, whose
score is 0 for certain, are left out. Written up in docs/decisions/0009.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from premem.forecasting.recorded_runs import read_runs
from premem.method.memorization import memorized, pre_memorization_accuracies
from premem.method.uncertainty import GRID, fit_beta_binomial, score_intervals

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
SAMPLES, COVERAGE, MEMORIZED_BELOW = 5, 0.9, 1.1055
MANY = "test_answer_types50_seed2_temp0.8.npy"
AGAIN = 8
"""How often each test question is taken."""


def posterior(correct_CE: NDArray[np.int64], memorized_CE: Bools) -> Floats:
    """E × G: P(score ≤ s) on the grid, example by example, as `score_intervals` says."""
    grid_G = np.arange(GRID + 1) / GRID
    below_CEG = []
    for correct_E in correct_CE:
        a, b = fit_beta_binomial(correct_E, samples=SAMPLES)
        below_CEG.append(special.betainc(a + correct_E[:, None], b + SAMPLES - correct_E[:, None], grid_G))
    best_EG = np.where(memorized_CE[:, :, None], 1.0, below_CEG).prod(axis=0)
    best_EG[~memorized_CE[-1]] = 0.0  # the maximum is at least the accuracy now
    below_EG: Floats = 1 - (1 - best_EG) * (1 - below_CEG[-1])
    return below_EG


def equal_tailed(below_EG: Floats) -> tuple[Floats, Floats]:
    tail = (1 - COVERAGE) / 2
    low_E = np.maximum((below_EG <= tail).sum(axis=1) - 1, 0)
    return low_E / GRID, np.minimum((below_EG < 1 - tail).sum(axis=1), GRID) / GRID


def highest_density(below_EG: Floats) -> tuple[Floats, Floats]:
    """The shortest interval that holds enough, wherever the score is."""
    low_E, high_E = np.zeros(len(below_EG)), np.ones(len(below_EG))
    found_E = np.zeros(len(below_EG), dtype=bool)
    for width in range(1, GRID):
        held_EG = below_EG[:, width:] - below_EG[:, :-width]
        now_E = ~found_E & (held_EG.max(axis=1) >= COVERAGE)
        low_E[now_E] = held_EG[now_E].argmax(axis=1) / GRID
        high_E[now_E] = low_E[now_E] + width / GRID
        found_E |= now_E
    return low_E, np.round(high_E, 2)


def candidates(
    score_E: Floats, correct_CE: NDArray[np.int64], memorized_CE: Bools
) -> dict[str, tuple[Floats, Floats, Floats]]:
    """By name: lower end, upper end, and what is shown beside them."""
    below_EG = posterior(correct_CE, memorized_CE)
    low_E, high_E = equal_tailed(below_EG)
    short_low_E, short_high_E = highest_density(below_EG)
    mean_E = (1 - below_EG).mean(axis=1)
    return {
        "equal-tailed": (low_E, high_E, score_E),
        "equal-tailed, its mean shown": (low_E, high_E, mean_E),
        "equal-tailed, extended to the score": (np.minimum(low_E, score_E), np.maximum(high_E, score_E), score_E),
        "highest density": (short_low_E, short_high_E, score_E),
        "shortest that contains the score": (
            *score_intervals(score_E, correct_CE, memorized_CE, samples=SAMPLES, coverage=COVERAGE),
            score_E,
        ),
    }


def lines(title: str, true_CE: Floats, memorized_CE: Bools, random: np.random.Generator) -> list[str]:
    """One line of a table per candidate."""
    perplexity_CE = np.where(memorized_CE, 1.0, 2.0)
    truth_E = pre_memorization_accuracies(true_CE, perplexity_CE, memorized_below=1.5)[-1]
    correct_CE = random.binomial(SAMPLES, true_CE)
    score_E = pre_memorization_accuracies(correct_CE / SAMPLES, perplexity_CE, memorized_below=1.5)[-1]
    open_E = ~memorized_CE.all(axis=0)
    report = []
    for name, (low_E, high_E, shown_E) in candidates(score_E, correct_CE, memorized_CE).items():
        covered_E = (low_E <= truth_E) & (truth_E <= high_E)
        contains_E = (low_E <= shown_E) & (shown_E <= high_E)
        shares = [covered_E[open_E & kept_E].mean() for kept_E in (open_E, score_E == 0, score_E == 1)]
        numbers = [contains_E[open_E].mean(), *shares, (high_E - low_E)[open_E].mean()]
        report.append(f"| {title} | {name} | {' | '.join(f'{number:.3f}' for number in numbers)} |")
    return report


def simulated(random: np.random.Generator) -> tuple[Floats, Bools]:
    """Accuracies that rise over three checkpoints while more and more is memorized."""
    true_CE = np.stack([random.beta(a, b, 40_000) for a, b in ((0.6, 1.2), (0.8, 1.0), (2.0, 1.0))])
    return true_CE, random.random(true_CE.shape) < np.array([[0.0], [0.4], [0.8]])


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data/recorded-runs")
    random = np.random.default_rng(0)
    print("| truth | interval | contains what is shown | covers | of scores 0 | of scores 1 | mean width |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print(*lines("simulated", *simulated(np.random.default_rng(1)), np.random.default_rng(2)), sep="\n")
    for run in read_runs(folder):
        known_CE = memorized(run.perplexity_CE, memorized_below=MEMORIZED_BELOW)
        answers = [folder / run.name / checkpoint / MANY for checkpoint in run.checkpoints]
        if all(path.exists() for path in answers):
            true_CE = np.tile([(np.load(path) == 0).mean(axis=1) for path in answers], AGAIN)
            drawn = random.integers(known_CE.shape[1], size=true_CE.shape[1])
            print(*lines(f"test, {run.name}", true_CE, known_CE[:, drawn], random), sep="\n")
        true_CE = np.empty(known_CE.shape)
        for c, accuracy_E in enumerate(run.accuracy_CE):
            correct_E = np.rint(accuracy_E * SAMPLES).astype(np.int64)
            a, b = fit_beta_binomial(correct_E, samples=SAMPLES)
            true_CE[c] = random.beta(a + correct_E, b + SAMPLES - correct_E)
        print(*lines(f"training, {run.name}", true_CE, known_CE, random), sep="\n")


if __name__ == "__main__":
    main()
