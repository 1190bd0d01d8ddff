"""Calibration: what it finds where the truth is known, what it refuses, and the authors' runs as golden cases."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem.errors import InputError
from premem.forecasting.calibration import calibrate, fit
from premem.forecasting.forecast import Refusal, Setting, forecast
from premem.forecasting.recorded_runs import read_runs
from premem.forecasting.rules import RULES, scores
from premem.forecasting.runs import ScoredRun

RECORDED = Path(__file__).parents[3] / "../shared/data/recorded-runs"
recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason="the authors' recorded runs are not on this machine")
HERE = Setting(model="llama-8b", task="gsm8k", grader="gsm8k 1", template="default", span="target")


def made_run(seed: int, *, line: float = 1.3, learning_rate: float | None = None, checkpoints: int = 4) -> ScoredRun:
    """A run in which memorized examples are always right, and the others as often as the test questions."""
    random = np.random.default_rng(seed)
    skill_C = np.linspace(0.1, 0.9, checkpoints) * random.uniform(0.5, 1.0)
    perplexity_CE = 1 + random.gamma(2.0, 0.6, (checkpoints, 400)) / (1 + np.arange(checkpoints))[:, None]
    accuracy_CE = np.repeat(skill_C[:, None], 400, axis=1)
    accuracy_CE = np.where(perplexity_CE < line, 1.0, accuracy_CE)
    run = ScoredRun(
        name=f"run-{seed}",
        checkpoints=tuple(f"checkpoint-{c}" for c in range(checkpoints)),
        accuracy_CE=accuracy_CE,
        perplexity_CE=perplexity_CE,
        samples=5,
        test_accuracy_C=np.full(checkpoints, np.nan),
        learning_rate=learning_rate if learning_rate is not None else seed * 1e-5,
    )
    truth_C = scores(run, memorized_below=line, rule="paper").mean(axis=1)
    return ScoredRun(**{**{name: getattr(run, name) for name in run.__slots__}, "test_accuracy_C": truth_C})


def test_the_threshold_that_made_the_runs_is_found():
    calibration = calibrate([made_run(seed) for seed in range(1, 6)])

    assert calibration.memorized_below == pytest.approx(1.3, abs=0.02)
    assert calibration.left_out.r2_identity > 0.99
    assert calibration.band[0] <= 1.3 <= calibration.band[1]
    assert calibration.interval[0] <= calibration.memorized_below <= calibration.interval[1]


def test_a_given_threshold_is_kept():
    calibration = calibrate([made_run(1), made_run(2)], memorized_below=1.7)

    assert calibration.memorized_below == 1.7
    assert calibration.interval == (1.7, 1.7)


def test_one_run_is_refused():
    with pytest.raises(InputError, match="at least two runs"):
        calibrate([made_run(1)])


def test_a_run_without_test_accuracy_is_refused_by_name():
    run = made_run(2)
    run.test_accuracy_C[:] = np.nan

    with pytest.raises(InputError, match="no checkpoint of run-2 has a test accuracy"):
        calibrate([made_run(1), run])


def test_checkpoints_without_test_accuracy_are_left_out():
    run = made_run(2)
    run.test_accuracy_C[0] = np.nan

    assert len(calibrate([made_run(1), run]).test_P) == 7


def test_runs_with_one_learning_rate_are_warned_of():
    calibration = calibrate([made_run(seed, learning_rate=1e-5) for seed in range(1, 5)])

    assert any("same learning rate" in warning for warning in calibration.warnings)


def test_runs_that_do_not_memorize_are_warned_of():
    calibration = calibrate([made_run(seed) for seed in range(1, 5)], memorized_below=1.0001)

    assert any("no run memorizes" in warning for warning in calibration.warnings)


def test_runs_with_test_sets_of_different_size_are_warned_of_as_of_different_tasks():
    one, other = (replace(made_run(seed), test_examples=size) for seed, size in ((1, 1319), (2, 5000)))

    assert any("questions (1319, 5000)" in warning for warning in calibrate([one, other]).warnings)
    assert not any("questions (" in warning for warning in calibrate([one, made_run(2)]).warnings)


def test_a_subset_that_was_not_trained_on_is_warned_of():
    named, other = made_run(1), made_run(2)
    wrong = replace(named, untrained_perplexity_CU=named.perplexity_CE[:, ::-1])
    right = replace(named, untrained_perplexity_CU=named.perplexity_CE + 1)

    assert any("outside of its subset" in warning for warning in calibrate([wrong, other]).warnings)
    assert not any("outside of its subset" in warning for warning in calibrate([right, other]).warnings)


def test_an_unknown_rule_names_those_there_are():
    with pytest.raises(InputError, match="paper, latest, shrunk, mean"):
        calibrate([made_run(1), made_run(2)], rule="best")


def test_r2_on_the_identity_line_by_hand():
    found = fit(np.array([0.2, 0.4]), np.array([0.1, 0.5]))

    assert found.r2_identity == pytest.approx(1 - 0.02 / 0.08)
    assert found.r2_linear == pytest.approx(1.0)
    assert found.mae == pytest.approx(0.1)


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_exceeds_the_last_accuracy_but_the_one_that_shrinks(rule):
    run = made_run(3)

    scores_CE = scores(run, memorized_below=1.3, rule=rule)

    assert scores_CE.shape == run.accuracy_CE.shape
    if rule != "shrunk":
        assert (scores_CE <= run.accuracy_CE).all()


@given(st.integers(1, 10_000))
def test_a_memorized_checkpoint_changes_nothing_but_the_cap(seed):
    run = made_run(seed)
    appended = np.vstack([run.accuracy_CE, np.ones((1, 400))])
    memorized = np.vstack([run.perplexity_CE, np.ones((1, 400))])
    longer = ScoredRun("longer", (*run.checkpoints, "more"), appended, memorized, 5, np.full(5, np.nan))

    before = scores(run, memorized_below=1.3)
    after = scores(longer, memorized_below=1.3)

    assert (after[:-1] == before).all()
    assert (after[-1] >= before[-1]).all()  # the last accuracy is 1 now, so it caps nothing


def test_a_forecast_without_calibration_is_refused():
    refusal = forecast(made_run(1), None, setting=HERE, calibrated_for=None)

    assert isinstance(refusal, Refusal)
    assert "no calibration" in refusal.reason


def test_a_calibration_of_another_task_is_refused_by_what_differs():
    calibration = calibrate([made_run(seed) for seed in range(1, 6)])
    elsewhere = Setting(model="llama-8b", task="math", grader="math 1", template="default", span="target")

    refusal = forecast(made_run(9), calibration, setting=elsewhere, calibrated_for=HERE)

    assert isinstance(refusal, Refusal)
    assert "task ('gsm8k', here 'math')" in refusal.reason


def test_a_calibrated_forecast_has_an_interval_around_it():
    calibration = calibrate([made_run(seed) for seed in range(1, 6)])

    points = forecast(made_run(9), calibration, setting=HERE, calibrated_for=HERE)

    assert [point.checkpoint for point in points] == ["checkpoint-0", "checkpoint-1", "checkpoint-2", "checkpoint-3"]
    assert all(point.low <= point.accuracy <= point.high for point in points)


@recorded
@pytest.mark.parametrize(
    ("rule", "r2_identity", "left_out", "mae"),
    [
        ("paper", 0.953, 0.950, 0.020),
        ("latest", 0.938, 0.933, 0.023),
        ("shrunk", 0.952, 0.949, 0.020),
        ("mean", 0.950, 0.947, 0.021),
    ],
)
def test_rules_on_the_recorded_runs(rule, r2_identity, left_out, mae):
    calibration = calibrate(read_runs(RECORDED), rule=rule)

    assert calibration.fit.r2_identity == pytest.approx(r2_identity, abs=5e-4)
    assert calibration.left_out.r2_identity == pytest.approx(left_out, abs=5e-4)
    assert calibration.left_out.mae == pytest.approx(mae, abs=5e-4)


@recorded
def test_the_interval_covers_the_recorded_runs_that_were_left_out():
    runs = read_runs(RECORDED)
    inside = []

    for left_out in runs:
        others = [run for run in runs if run is not left_out]
        points = forecast(left_out, calibrate(others), setting=HERE, calibrated_for=HERE)
        inside += [p.low <= truth <= p.high for p, truth in zip(points, left_out.test_accuracy_C, strict=True)]

    assert len(inside) == 35
    assert 0.80 <= np.mean(inside) <= 0.97
