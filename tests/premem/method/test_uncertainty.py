"""Intervals: their algebra on one example, and their coverage where the truth is known."""

import numpy as np
import pytest

from premem.method.memorization import pre_memorization_accuracies
from premem.method.uncertainty import fit_beta_binomial, score_intervals, shrunken


def test_the_fit_finds_the_distribution_that_the_counts_came_from():
    random = np.random.default_rng(0)
    correct_E = random.binomial(10, random.beta(2.0, 5.0, 50_000))

    a, b = fit_beta_binomial(correct_E, samples=10)

    assert a == pytest.approx(2.0, rel=0.05)
    assert b == pytest.approx(5.0, rel=0.05)


@pytest.mark.parametrize("correct_E", [np.zeros(9, dtype=np.int64), np.full(9, 5), np.array([2])])
def test_counts_without_spread_have_a_fit_too(correct_E):
    assert np.isfinite(fit_beta_binomial(correct_E, samples=5)).all()


def test_shrinking_draws_towards_the_data_set_and_keeps_the_order():
    correct_CE = np.array([[0, 0, 0, 1, 2, 5]])

    shrunken_CE = shrunken(correct_CE, samples=5)

    assert 0 < shrunken_CE[0, 0] < shrunken_CE[0, 3] < shrunken_CE[0, 4] < shrunken_CE[0, 5] < 1


def test_intervals_cover_the_true_score_nine_times_in_ten():
    random = np.random.default_rng(1)
    true_CE = np.stack([random.beta(0.6, 1.2, 40_000), random.beta(0.8, 1.0, 40_000), random.beta(2.0, 1.0, 40_000)])
    memorized_CE = random.random(true_CE.shape) < np.array([[0.0], [0.4], [0.8]])
    perplexity_CE = np.where(memorized_CE, 1.0, 2.0)
    truth_E = pre_memorization_accuracies(true_CE, perplexity_CE, memorized_below=1.5)[-1]

    low_E, high_E = score_intervals(random.binomial(5, true_CE), memorized_CE, samples=5)

    covered = ((low_E <= truth_E) & (truth_E <= high_E)).mean()
    assert 0.89 < covered < 0.94  # a little above 0.9: the ends lie on a grid
    assert (high_E - low_E).mean() < 0.55  # and they do not cover by being wide


def test_more_samples_make_a_narrower_interval():
    correct_CE = np.array([[0, 0, 1, 2, 4, 5]])

    few = score_intervals(correct_CE, np.zeros((1, 6), dtype=bool), samples=5)
    many = score_intervals(10 * correct_CE, np.zeros((1, 6), dtype=bool), samples=50)

    assert (many[1] - many[0] < few[1] - few[0]).all()


def test_always_memorized_is_zero_for_certain():
    low_E, high_E = score_intervals(np.array([[5, 5], [5, 1]]), np.array([[True, False], [True, False]]), samples=5)

    assert (low_E[0], high_E[0]) == (0.0, 0.0)
    assert high_E[1] > 0
