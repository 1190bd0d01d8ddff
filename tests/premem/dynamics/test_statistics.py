"""Verdicts from changes that are all alike, so that every interval is a point, and from changes with known spread."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem.dynamics.advice import ADVICE, advice, rejected_is_longer
from premem.dynamics.statistics import (
    Floors,
    best_checkpoint,
    change_per_token,
    evaluations,
    margin_accuracy,
    margins,
    pairs_needed,
    train_only,
    verdict,
)
from premem.errors import InputError


def alike(value, pairs=100):
    return np.full(pairs, float(value))


def verdict_of(chosen, rejected, argmax, pairs=100):
    return verdict(
        alike(chosen, pairs),
        None if rejected is None else alike(rejected, pairs),
        None if argmax is None else alike(argmax, pairs),
        resamples=20,
    )


@pytest.mark.parametrize(
    ("chosen", "rejected", "argmax", "name"),
    [
        (-0.3, -1.0, 0.4, "squeeze"),
        (-0.3, None, 0.4, "squeeze"),
        (-0.3, 0.2, 0.4, "displacement"),
        (-0.3, -1.0, 0.01, "flatten"),
        (-0.3, -1.0, None, "displacement"),
        (-0.01, -1.0, 0.4, "none"),
        (0.1, -1.0, 0.4, "none"),
    ],
)
def test_the_verdict_where_every_pair_moved_alike(chosen, rejected, argmax, name):
    assert verdict_of(chosen, rejected, argmax).name == name


def test_what_was_not_scored_is_said():
    assert verdict_of(-0.3, None, 0.4).left_out == ("rejected",)


def test_ninety_nine_pairs_are_refused_and_still_measured():
    found = verdict_of(-0.3, -1.0, 0.4, pairs=99)

    assert (found.name, found.chosen.mean) == ("refused", pytest.approx(-0.3))


def test_a_hundred_pairs_of_fifty_prompts_are_fifty_prompts():
    found = verdict(alike(-0.3), clusters=np.repeat(np.arange(50), 2), resamples=20)

    assert (found.name, found.pairs, found.prompts) == ("refused", 100, 50)


def test_an_interval_of_a_share_is_as_wide_as_theory_says():
    # half of 400 pairs at −1, half at +1: sd 1, half-width 1.96/√400 = 0.098
    found = verdict(np.tile([-1.0, 1.0], 200))

    assert found.chosen.half_width == pytest.approx(0.098, abs=0.006)
    assert found.smallest_visible_fall == pytest.approx(found.chosen.half_width + 0.01)


def test_pairs_that_repeat_a_prompt_widen_the_interval():
    # 100 prompts, each four times: sd 1 over 100, 1.96/√100 = 0.196
    found = verdict(np.repeat(np.tile([-1.0, 1.0], 50), 4), clusters=np.repeat(np.arange(100), 4))

    assert found.chosen.half_width == pytest.approx(0.196, abs=0.012)


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(1).normal(size=150)

    assert verdict(values, seed=3) == verdict(values, seed=3)
    assert verdict(values, seed=3) != verdict(values, seed=4)


def test_a_fall_hidden_by_its_spread_needs_more_pairs():
    found = verdict(np.tile([-1.05, 0.95], 200))

    # the half-width of 0.098 must shrink to 0.05 − 0.01
    assert found.name == "none"
    assert pairs_needed(found, 0.05) == pytest.approx(400 * (0.098 / 0.04) ** 2, rel=0.15)
    assert pairs_needed(found, 0.01) is None


def test_the_share_of_squeezed_pairs_is_told_where_the_mean_rose():
    chosen = np.r_[np.full(25, -0.1), np.full(75, 1.0)]

    found = verdict(chosen, None, alike(0.5), resamples=20)

    assert (found.name, found.chosen_down_argmax_up) == ("none", 0.25)
    assert found.severity == pytest.approx(0.5 - chosen.mean())


def test_a_change_is_per_token_of_each_pair():
    # −10/5 and −10/20, whose mean is −1.25; the ratio of sums would be −0.8
    assert change_per_token([-5.0, -5.0], [-15.0, -15.0], [5, 20]).tolist() == [-2.0, -0.5]


@pytest.mark.parametrize(
    ("after", "tokens", "told"),
    [([-1.0, np.nan], [1, 1], "NaN"), ([-1.0, -1.0], [1, 0], "no token"), ([-1.0, -1.0], [1], "do not fit")],
)
def test_sums_that_cannot_be_used_are_named(after, tokens, told):
    with pytest.raises(InputError, match=told):
        change_per_token([-1.0, -1.0], after, tokens)


def test_one_prompt_has_no_interval():
    with pytest.raises(InputError, match="at least two pairs"):
        verdict([-0.3])


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(-2, 2))
def test_moving_chosen_further_down_never_takes_an_alert_away(chosen, rejected, argmax):
    before, after = (verdict_of(chosen - more, rejected, argmax) for more in (0.0, 0.5))

    assert after.alert or not before.alert


def test_since_the_best_counts_from_the_second_evaluation_in_a_row():
    # chosen per token over the checkpoints: up to 0.5, then down, up again to the best, down and down
    levels = [0.0, 0.5, 0.3, 0.6, 0.4, 0.2]
    chosen_CE = np.array([alike(10 * level) for level in levels])
    argmax_CE = np.array([alike(10 * c) for c in range(6)])

    found = evaluations(chosen_CE, np.full(100, 10), argmax_CE=argmax_CE)

    assert [one.since_reference.name for one in found] == ["none"] * 5
    assert [one.best for one in found] == [1, 1, 3, 3, 3]
    assert [one.since_best and one.since_best.name for one in found] == [None, "squeeze", None, "squeeze", "squeeze"]
    assert [one.since_best_counts for one in found] == [False, False, False, False, True]


def test_the_margin_is_that_of_dpo():
    # 0.1·((−5 + 6) − (−9 + 7)) = 0.3, and per token 0.1·(1/2 + 2/4)
    given = {"chosen": [-5.0], "rejected": [-9.0], "reference_chosen": [-6.0], "reference_rejected": [-7.0]}

    assert margins(**given).tolist() == pytest.approx([0.3])
    assert margins(**given, tokens_chosen=[2], tokens_rejected=[4]).tolist() == pytest.approx([0.1])


def test_a_margin_of_zero_is_not_accurate():
    assert margin_accuracy([0.5, 0.0, -0.5, 1.0]) == 0.5


def test_the_best_checkpoint_is_the_earliest_of_the_most_accurate_without_a_verdict():
    fine, fallen, few = verdict_of(0.1, -1, 0.4), verdict_of(-0.3, -1, 0.4), verdict_of(0.1, -1, 0.4, pairs=50)

    assert best_checkpoint([0.6, 0.7, 0.7, 0.9, 0.95], [fine, fine, fine, fallen, few]) == 1
    assert best_checkpoint([0.6], [fallen]) is None


def test_train_only_is_a_fall_on_held_out_prompts_alone():
    fine, fallen, few = verdict_of(0.1, -1, 0.4), verdict_of(-0.3, -1, 0.4), verdict_of(0.1, -1, 0.4, pairs=50)

    assert train_only(fine, fallen)
    assert not any(train_only(*both) for both in [(fallen, fallen), (fine, fine), (few, fallen)])


def test_floors_are_settings():
    assert verdict(alike(-0.3), floors=Floors(chosen=-0.5), resamples=20).name == "none"


def test_every_alert_has_advice_that_says_what_was_measured():
    for occasion in ("squeeze", "flatten", "displacement", "train_only", "rejected_longer"):
        assert advice(occasion)
    assert all(line.measured for line in ADVICE)
    assert advice() == []


def test_rejected_is_longer_where_most_pairs_say_so():
    assert rejected_is_longer([3, 3, 3], [4, 4, 2])
    assert not rejected_is_longer([3, 3], [4, 2])
    assert not rejected_is_longer([], [])
