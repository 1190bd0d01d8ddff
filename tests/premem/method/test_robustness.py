"""Accuracy lost under a perturbed prompt."""

import numpy as np
import pytest

from premem.method.robustness import drops


def test_the_drop_of_each_band_by_hand():
    score_E = np.array([0.0, 0.1, 0.9, 1.0, np.nan])
    baseline_E = np.array([0.4, 0.2, 0.8, 1.0, 1.0])
    perturbed_E = np.array([0.2, 0.0, 0.8, 0.9, 0.0])

    found = drops(score_E, baseline_E, perturbed_E, bands=(0.0, 0.5, 1.0))

    assert [drop.examples for drop in found] == [2, 2]
    assert [drop.drop for drop in found] == pytest.approx([0.2, 0.05])
    assert [drop.baseline for drop in found] == pytest.approx([0.3, 0.9])


def test_an_empty_band_has_no_drop():
    found = drops(np.array([0.9]), np.array([1.0]), np.array([0.5]), bands=(0.0, 0.5, 1.0))

    assert (found[0].examples, found[0].drop, found[0].interval) == (0, None, None)


def test_the_interval_holds_the_mean_and_narrows_with_more_examples():
    random = np.random.default_rng(0)
    few = drops(np.zeros(20), random.random(20), np.zeros(20), bands=(0.0, 1.0))[0]
    many = drops(np.zeros(2000), random.random(2000), np.zeros(2000), bands=(0.0, 1.0))[0]

    assert few.interval[0] < few.drop < few.interval[1]
    assert many.interval[1] - many.interval[0] < few.interval[1] - few.interval[0]
