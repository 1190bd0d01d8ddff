"""Intervals: their algebra on one example, and their coverage where the truth is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from premem.method.memorization import pre_memorization_accuracies
from premem.method.uncertainty import fit_beta_binomial, score_intervals, shrunken


def intervals(correct_CE, memorized_CE, *, samples, drawn_CE=None):
    """Of the scores that these answers give."""
    perplexity_CE = np.where(memorized_CE, 1.0, 2.0)
    score_E = pre_memorization_accuracies(correct_CE / samples, perplexity_CE, memorized_below=1.5)[-1]
    return score_intervals(score_E, correct_CE, memorized_CE, samples=samples, drawn_CE=drawn_CE)


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

    low_E, high_E = intervals(random.binomial(5, true_CE), memorized_CE, samples=5)

    covered = ((low_E <= truth_E) & (truth_E <= high_E)).mean()
    assert 0.88 < covered < 0.93
    assert (high_E - low_E).mean() < 0.5  # and they do not cover by being wide


def test_more_samples_make_a_narrower_interval():
    correct_CE = np.array([[0, 0, 1, 2, 4, 5]])

    few = intervals(correct_CE, np.zeros((1, 6), dtype=bool), samples=5)
    many = intervals(10 * correct_CE, np.zeros((1, 6), dtype=bool), samples=50)

    assert (many[1] - many[0] < few[1] - few[0]).all()


def test_always_memorized_is_zero_for_certain():
    low_E, high_E = intervals(np.array([[5, 5], [5, 1]]), np.array([[True, False], [True, False]]), samples=5)

    assert (low_E[0], high_E[0]) == (0.0, 0.0)
    assert high_E[1] > 0


@st.composite
def answered(draw):
    """Counts of right and of drawn answers over checkpoints and examples, and which pairs are memorized."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 12)))
    samples = draw(st.integers(1, 20))
    drawn_CE = draw(arrays.arrays(np.int64, shape, elements=st.integers(0, samples)))
    right_CE = draw(arrays.arrays(np.int64, shape, elements=st.integers(0, samples)))
    return samples, drawn_CE, np.minimum(right_CE, drawn_CE), draw(arrays.arrays(bool, shape))


@given(answered())
def test_every_interval_contains_its_score(made):
    samples, drawn_CE, correct_CE, memorized_CE = made
    perplexity_CE = np.where(memorized_CE, 1.0, 2.0)
    score_E = pre_memorization_accuracies(correct_CE / samples, perplexity_CE, memorized_below=1.5)[-1]

    low_E, high_E = score_intervals(score_E, correct_CE, memorized_CE, samples=samples, drawn_CE=drawn_CE)

    assert (low_E >= 0).all()
    assert (low_E <= score_E).all()
    assert (score_E <= high_E).all()
    assert (high_E <= 1).all()


@given(arrays.arrays(float, 6, elements=st.floats(0, 1)))
def test_an_interval_contains_whatever_score_is_shown_beside_it(score_E):
    correct_CE = np.array([[0, 1, 2, 3, 4, 5]])

    low_E, high_E = score_intervals(score_E, correct_CE, np.zeros((1, 6), dtype=bool), samples=5)

    assert (low_E <= score_E).all()
    assert (score_E <= high_E).all()


@pytest.mark.parametrize(("score", "interval"), [(0.0, (0.0, 0.9)), (1.0, (0.1, 1.0))])
def test_where_every_accuracy_is_as_likely_an_interval_is_nine_tenths_long_and_begins_or_ends_at_its_score(
    score, interval
):
    nothing_CE = np.zeros((1, 1), dtype=np.int64)

    low_E, high_E = score_intervals(
        np.array([score]), nothing_CE, np.zeros((1, 1), dtype=bool), samples=5, drawn_CE=nothing_CE
    )

    assert (low_E[0], high_E[0]) == pytest.approx(interval)


@pytest.mark.parametrize("correct", range(6))
def test_no_shorter_interval_of_hundredths_holds_as_much_and_the_score(correct):
    correct_CE = np.array([[correct, 5, 5, 4, 5, 5, 3, 5, 0, 4]])
    a, b = fit_beta_binomial(correct_CE[0], samples=5)
    held = stats.beta(a + correct, b + 5 - correct).cdf(np.arange(101) / 100)
    shortest = min(
        high - low
        for low in range(20 * correct + 1)
        for high in range(20 * correct, 101)
        if held[high] - held[low] >= 0.9
    )

    low_E, high_E = intervals(correct_CE, np.zeros((1, 10), dtype=bool), samples=5)

    assert high_E[0] - low_E[0] == pytest.approx(shortest / 100)


def test_an_interval_does_not_depend_on_who_stands_beside_it():
    correct_CE = np.array([[5, 0, 3, 1], [4, 0, 5, 2]])
    memorized_CE = np.array([[False, False, False, True], [True, False, True, False]])

    low_E, high_E = intervals(correct_CE, memorized_CE, samples=5)
    order = [2, 0, 3, 1]
    low_F, high_F = intervals(correct_CE[:, order], memorized_CE[:, order], samples=5)

    assert low_F.tolist() == low_E[order].tolist()
    assert high_F.tolist() == high_E[order].tolist()
