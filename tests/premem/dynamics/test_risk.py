"""Scores of risk by hand, and how they are judged on a job's own pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from premem.dynamics.risk import DEFAULT, record, records, scores
from premem.errors import InputError

PAIRS = {
    "chosen_sum": [-10.0, -30.0],
    "rejected_sum": [-40.0, -20.0],
    "tokens_chosen": [5, 10],
    "tokens_rejected": [20, 4],
}


def test_scores_of_two_pairs_by_hand():
    found = scores(
        **PAIRS,
        argmax_sum=[-5.0, -25.0],
        chosen=["the cat sat", "a b"],
        rejected=["the dog sat", "c d"],
    )

    assert {name: values.tolist() for name, values in found.items()} == {
        "log_ratio": [30.0, -10.0],
        "length_gap": [15.0, -6.0],
        "chosen_sum": [-10.0, -30.0],
        "rejected_mean": [-2.0, -5.0],
        "valley_gap": [1.0, 0.5],
        "word_overlap": [0.5, 0.0],
    }


def test_what_was_not_measured_is_not_scored():
    assert set(scores(**PAIRS)) == {DEFAULT, "length_gap", "chosen_sum", "rejected_mean"}


def test_a_score_for_another_number_of_pairs_is_named():
    with pytest.raises(InputError, match="valley_gap needs one finite number for each of the 2 pairs"):
        scores(**PAIRS, argmax_sum=[np.nan, -1.0])


def test_the_auc_by_hand():
    # fallen 4 and 2 against others 3, 2, 1: right in 3 + 1.5 of 6
    found = record("some", [4, 2, 3, 2, 1], np.array([True, True, False, False, False]))

    assert found.auc == pytest.approx(4.5 / 6)
    assert found.low <= found.auc <= found.high


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_the_auc_is_that_of_scikit_learn(pairs):
    values, fell = np.array([value for value, _ in pairs]), np.array([down for _, down in pairs])

    found = record("some", values, fell, resamples=5)

    if fell.all() or not fell.any():
        assert (found.auc, found.unproven) == (None, True)
    else:
        assert found.auc == pytest.approx(roc_auc_score(fell, values))


def test_a_list_that_is_no_better_than_chance_is_unproven():
    change = np.tile([-1.0, 1.0], 50)
    found = records({"chance": np.arange(100), "sure": -change}, change)

    assert [(one.name, one.unproven) for one in found] == [("sure", False), ("chance", True)]


def test_the_interval_narrows_with_the_root_of_the_pairs():
    chance = np.random.default_rng(0)

    def width(pairs):
        fell = np.arange(pairs) % 2 == 0
        found = record("some", chance.normal(size=pairs) + fell, fell)
        return found.high - found.low

    assert width(1600) == pytest.approx(width(400) / 2, rel=0.25)
