"""Where the line is drawn, and that every line says what it rests on."""

import math
from typing import get_args

import numpy as np
import pytest

from premem import thresholds
from premem.wire import MemorizedBelow


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
