"""Ranking: the documented order of ties, one rule at a time."""

import numpy as np

from premem.curation import rank


def test_the_lowest_score_comes_first():
    order = rank(np.array([0.6, 0.2, 0.4]), np.full((1, 3), 0.5), np.full((1, 3), 1.5))

    assert order.tolist() == [1, 2, 0]


def test_among_equal_scores_the_lowest_mean_accuracy_comes_first():
    accuracy_CE = np.array([[0.0, 0.0], [0.8, 0.2]])

    assert rank(np.zeros(2), accuracy_CE, np.full((2, 2), 1.5)).tolist() == [1, 0]


def test_then_the_highest_first_perplexity_and_then_the_position():
    perplexity_CE = np.array([[1.5, 1.9, 1.5], [3.0, 1.0, 1.0]])

    assert rank(np.zeros(3), np.zeros((2, 3)), perplexity_CE).tolist() == [1, 0, 2]


def test_an_example_without_a_score_is_left_out():
    order = rank(np.array([np.nan, 0.2, 0.1]), np.array([[np.nan, 0.2, 0.1]]), np.array([[np.nan, 1.5, 1.5]]))

    assert order.tolist() == [2, 1]
