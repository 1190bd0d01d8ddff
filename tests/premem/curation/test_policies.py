"""Ranking: the documented order of ties, one rule at a time."""

import numpy as np
import pytest

from premem.curation.policies import POLICIES, rank, sampling_weights, select
from premem.errors import InputError


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


SCORES = np.array([0.0, 0.2, 0.4, 0.6, 1.0, np.nan])
ACCURACIES = np.array([[0.0, 0.9, 0.4, 0.6, 1.0, np.nan]])
PERPLEXITIES = np.full((1, 6), 1.5)


def chosen(policy: str, **options: object) -> list[int]:
    return select(policy, SCORES, ACCURACIES, PERPLEXITIES, **options).positions.tolist()


def test_each_policy_chooses_what_its_name_says():
    assert chosen("lowest", below=0.5) == [0, 1, 2]
    assert chosen("band", above=0.2, below=0.5) == [1, 2]
    assert chosen("variance", budget=2) == [2, 3]
    assert chosen("mean", below=0.5) == [0, 2]
    assert sorted(chosen("random")) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_keeps_to_its_budget_and_has_a_control_of_equal_size(policy):
    selection = select(policy, SCORES, ACCURACIES, PERPLEXITIES, below=1.0, budget=2, seed=3)

    assert len(selection.positions) == len(selection.control) == 2
    assert selection.qualified >= 4
    assert 5 not in selection.control  # it has no score


def test_a_budget_above_what_there_is_gives_all_and_says_so():
    selection = select("lowest", SCORES, ACCURACIES, PERPLEXITIES, below=0.5, budget=100)

    assert selection.positions.tolist() == [0, 1, 2]
    assert selection.notes == ("3 examples qualified, fewer than the budget of 100: all of them are here",)


def test_the_same_seed_draws_the_same():
    assert chosen("random", seed=1, budget=3) == chosen("random", seed=1, budget=3)
    assert chosen("random", seed=1) != chosen("random", seed=2)


@pytest.mark.parametrize("options", [{"below": 1.5}, {"below": -0.1}, {"above": 0.6, "below": 0.5}, {"budget": 0}])
def test_a_threshold_outside_of_what_it_can_be_is_refused(options):
    with pytest.raises(InputError):
        chosen("band", **options)


def test_an_unknown_policy_names_those_there_are():
    with pytest.raises(InputError, match="lowest, band, variance, mean, random"):
        chosen("hardest")


def test_weights_sum_to_one_and_favour_what_was_not_solved():
    weights = sampling_weights(SCORES, floor=0.1)

    assert weights.sum() == pytest.approx(1.0)
    assert weights[0] > weights[1] > weights[4] > 0
    assert weights[5] == pytest.approx(np.mean(weights[:5]))
