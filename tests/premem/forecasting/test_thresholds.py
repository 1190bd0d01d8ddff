"""Where the line is drawn, and that every line says what it rests on."""

import math
from typing import get_args

import numpy as np
import pytest

from premem.errors import InputError
from premem.forecasting import thresholds
from premem.forecasting.runs import ScoredRun
from premem.wire.jobs import MemorizedBelow


def test_presets_are_the_authors_thresholds_in_plain_perplexity():
    gsm8k, _ = thresholds.PRESETS["gsm8k-llama3"]
    math_, _ = thresholds.PRESETS["math-llama3"]

    assert gsm8k == pytest.approx(math.exp(math.exp(-2.3)), abs=5e-5)
    assert math_ == pytest.approx(math.exp(math.exp(-1.7)), abs=5e-5)


def test_the_request_knows_every_preset_and_no_other():
    assert set(get_args(get_args(MemorizedBelow)[1])) == set(thresholds.PRESETS)


def test_a_number_and_a_preset_say_what_they_rest_on():
    assert thresholds.resolve(1.3) == thresholds.Threshold(1.3, "number", "given with the job")
    assert thresholds.resolve("gsm8k-llama3").basis == "preset"


def test_without_a_threshold_a_quantile_of_the_first_checkpoint_stands_in():
    nll_E = np.arange(201) / 200  # 0 to 1 in 200 steps: the 3.5% quantile is the seventh step

    threshold = thresholds.from_first_checkpoint(np.exp(np.append(nll_E, np.nan)))

    assert math.log(threshold.memorized_below) == pytest.approx(0.035)
    assert threshold.basis == "quantile"


def test_nothing_scored_gives_no_threshold():
    with pytest.raises(ValueError, match="no example was scored"):
        thresholds.from_first_checkpoint(np.array([np.nan]))


def test_at_no_checkpoint_more_than_one_in_a_hundred_never_trained_examples_lies_under_their_threshold():
    nll_CU = np.stack([0.5 + np.arange(101) / 100, np.arange(101) / 100])
    untrained = {"untrained_accuracy_C": np.zeros(2), "untrained_perplexity_CU": np.exp(nll_CU)}
    run = ScoredRun("part", ("a", "b"), np.ones((2, 1)), np.ones((2, 1)), 5, np.full(2, np.nan), **untrained)

    threshold = thresholds.from_never_trained([run])

    assert math.log(threshold.memorized_below) == pytest.approx(0.01)
    assert "never-trained" in threshold.source


def test_the_untrained_part_stands_in_for_a_test_set():
    perplexity_CE = np.linspace(1.05, 3.0, 400)[None, :]
    accuracy_CE = np.where(perplexity_CE < 1.5, 1.0, 0.4)  # right by heart under 1.5
    unseen = float(np.where(perplexity_CE < 1.5, 0.0, 0.4).mean())
    run = ScoredRun("part", ("c",), accuracy_CE, perplexity_CE, 5, np.array([np.nan]), None, np.array([unseen]))

    threshold = thresholds.from_untrained_part([run])

    assert threshold.memorized_below == pytest.approx(1.5, abs=0.02)
    assert threshold.basis == "untrained"


def test_without_untrained_examples_no_threshold_is_taken_from_them():
    whole = ScoredRun("whole", ("c",), np.ones((1, 2)), np.array([[1.1, 1.2]]), 5, np.array([0.5]))

    with pytest.raises(InputError, match="no run was trained on a part"):
        thresholds.from_untrained_part([whole])
    with pytest.raises(InputError, match="not trained on"):
        thresholds.from_never_trained([whole])
