"""Gains of other prompts' answers, answers that are confirmed to be another's, and answers that repeat themselves."""

import numpy as np
import pytest

from premem.dynamics.cross_response import (
    alert,
    confirmed,
    exact_mcnemar,
    gain,
    repeater,
    repeats_itself,
    shared_runs,
)
from premem.errors import InputError

EIGHT = "one two three four five six seven eight"
LOOP = "so it goes on so it goes on so it goes on"


def test_the_gain_is_beyond_what_test_answers_gained():
    # responses rose by 1 and 0.5, test responses by 0.25 on average
    found = gain([[-3.0, -2.0]], [[-2.0, -1.5]], [[-4.0, -4.0]], [[-3.5, -4.0]])

    assert found.tolist() == [[0.75, 0.25]]


def test_shapes_that_do_not_fit_are_told():
    with pytest.raises(InputError, match="before and after have shapes"):
        gain([[1.0]], [[1.0, 2.0]], [[1.0]], [[1.0]])
    with pytest.raises(InputError, match="they are the same"):
        gain([[1.0]], [[1.0]], [[1.0], [1.0]], [[1.0], [1.0]])


@pytest.mark.parametrize(
    ("h", "irr_train", "fires"), [(0.2, 0.1, True), (0.04, 0.1, False), (0.2, -0.1, False), (0.2, 0.0, False)]
)
def test_it_alerts_where_others_answers_rose_beyond_test_answers(h, irr_train, fires):
    assert alert(np.full((10, 2), h), np.full((10, 2), irr_train), resamples=20).fires is fires


def test_eight_words_in_a_row_of_another_answer_confirm():
    found = confirmed(f"Well, {EIGHT} indeed", partner=f"see {EIGHT}", prompt="What is it?", own="Nothing.")

    assert found == [EIGHT]


def test_seven_do_not():
    assert confirmed(EIGHT.removesuffix(" eight"), partner=EIGHT, prompt="", own="") == []


@pytest.mark.parametrize("where", ["prompt", "own"])
def test_words_that_stand_in_the_prompt_or_its_own_answer_confirm_nothing(where):
    texts = {"prompt": "", "own": "", where: f"it was {EIGHT}"}

    assert confirmed(EIGHT, partner=EIGHT, **texts) == []


def test_white_space_does_not_part_words():
    assert shared_runs(EIGHT.replace(" ", "\n "), EIGHT) == [EIGHT]


def test_four_words_three_times_are_repetition():
    assert repeats_itself(LOOP)
    assert not repeats_itself("so it goes on and so it goes on")
    assert not repeats_itself("")


def test_more_answers_that_repeat_themselves_than_before_are_told():
    # 10 of 100 began to, none stopped: p = 2/2¹⁰
    found = repeater([LOOP] * 10 + ["fine"] * 90, ["fine"] * 100)

    assert found.fires
    assert (found.share, found.reference_share, found.p) == (0.1, 0.0, pytest.approx(2 / 2**10))


def test_a_reference_that_repeats_itself_as_often_is_no_news():
    answers = [LOOP] * 30 + ["fine"] * 70

    assert not repeater(answers, answers).fires


def test_few_that_began_are_chance():
    # 3 of 100: p = 2/2³
    assert not repeater([LOOP] * 3 + ["fine"] * 97, ["fine"] * 100).fires


def test_mcnemar_is_exact_and_symmetric():
    # of five changes one the other way: 2·(1 + 5)/2⁵
    assert exact_mcnemar(4, 1) == exact_mcnemar(1, 4) == pytest.approx(12 / 32)
    assert exact_mcnemar(0, 0) == 1.0
