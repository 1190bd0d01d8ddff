from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem.forecasting.recorded_runs import read_runs
from premem.method.memorization import pre_memorization_accuracies
from premem.method.planning import Draw, next_draw, replay, settled_score

RECORDED = Path(__file__).parents[3] / "../shared/data/recorded-runs"
recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason="the authors' recorded runs are not on this machine")


def full_score(memorized_C: list[bool], outcome_CS: list[list[bool]]) -> float:
    accuracy_CE = np.array([[np.mean(outcomes)] for outcomes in outcome_CS])
    perplexity_CE = np.array([[1.0 if known else 2.0] for known in memorized_C])
    return float(pre_memorization_accuracies(accuracy_CE, perplexity_CE, memorized_below=1.5)[-1, 0])


histories = st.integers(1, 5).flatmap(
    lambda samples: st.lists(
        st.tuples(st.booleans(), st.lists(st.booleans(), min_size=samples, max_size=samples)), min_size=1, max_size=5
    )
)


def test_a_memorized_pair_is_never_drawn():
    assert next_draw([False, True, True], [0, 0, 0], [0, 0, 0], samples=5) == Draw(0, 5)
    assert next_draw([False, True, True], [0, 0, 0], [5, 0, 0], samples=5) is None


def test_an_example_that_was_always_memorized_is_not_drawn_at_all():
    assert next_draw([True, True], [0, 0], [0, 0], samples=5) is None


def test_unmemorized_at_the_last_checkpoint_needs_only_that():
    assert next_draw([False, False], [0, 0], [0, 0], samples=5) == Draw(1, 5)
    assert next_draw([False, False], [0, 3], [0, 5], samples=5) is None


def test_the_last_checkpoint_is_only_the_cap_and_comes_last():
    assert next_draw([False, True], [2, 0], [5, 0], samples=5) == Draw(1, 2)
    assert next_draw([False, True], [2, 2], [5, 2], samples=5) is None
    assert next_draw([False, True], [2, 1], [5, 2], samples=5) == Draw(1, 1)


def test_a_pair_is_left_as_soon_as_it_cannot_raise_the_maximum():
    assert next_draw([False, False, True], [0, 4, 0], [0, 5, 0], samples=5) == Draw(0, 1)
    assert next_draw([False, False, True], [0, 4, 4], [1, 5, 4], samples=5) is None


def test_nothing_exceeds_a_maximum_of_one():
    assert next_draw([False, False, True], [0, 5, 0], [0, 5, 0], samples=5) == Draw(2, 5)


def test_below_a_threshold_is_settled_with_fewer():
    assert next_draw([False], [0], [0], samples=5, below=0.5) == Draw(0, 3)
    assert next_draw([False], [0], [3], samples=5, below=0.5) is None
    assert next_draw([False], [3], [3], samples=5, below=0.5) is None


@given(histories)
def test_what_is_left_out_changes_no_score(history):
    memorized_C, outcome_CS = [known for known, _ in history], [outcomes for _, outcomes in history]

    right, drawn = replay(memorized_C, outcome_CS)

    assert max(drawn) <= len(outcome_CS[0])
    assert settled_score(memorized_C, right, drawn, samples=len(outcome_CS[0])) == full_score(memorized_C, outcome_CS)


@given(histories, st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.6, 1.0]))
def test_membership_below_a_threshold_is_the_one_that_all_samples_give(history, below):
    memorized_C, outcome_CS = [known for known, _ in history], [outcomes for _, outcomes in history]
    samples = len(outcome_CS[0])

    right, drawn = replay(memorized_C, outcome_CS, below=below)

    assert (settled_score(memorized_C, right, drawn, samples=samples) < below) == (
        full_score(memorized_C, outcome_CS) < below
    )
    assert sum(drawn) <= sum(replay(memorized_C, outcome_CS)[1])


@recorded
def test_on_the_recorded_runs_most_pairs_and_samples_need_not_be_drawn():
    """Runs of three epochs and more; every score is the one of all samples."""
    runs = [run for run in read_runs(RECORDED) if len(run.checkpoints) >= 3]
    chance = np.random.default_rng(0)
    pairs = drawn_pairs = samples = drawn_samples = drawn_below = 0
    for run in runs:
        correct_CE = np.rint(run.accuracy_CE * run.samples).astype(int)
        outcome_CES = np.arange(run.samples) < correct_CE[:, :, None]
        outcome_CES = chance.permuted(outcome_CES, axis=2)
        memorized_CE = run.perplexity_CE < 1.1055
        score_E = pre_memorization_accuracies(run.accuracy_CE, run.perplexity_CE, memorized_below=1.1055)[-1]
        for e in chance.choice(len(score_E), 600, replace=False):
            memorized_C, outcome_CS = memorized_CE[:, e].tolist(), outcome_CES[:, e].tolist()
            right, drawn = replay(memorized_C, outcome_CS)
            assert settled_score(memorized_C, right, drawn, samples=run.samples) == pytest.approx(score_E[e], abs=1e-12)
            pairs += len(drawn)
            drawn_pairs += sum(map(bool, drawn))
            samples += len(drawn) * run.samples
            drawn_samples += sum(drawn)
            drawn_below += sum(replay(memorized_C, outcome_CS, below=0.5)[1])

    assert 0.2 < drawn_pairs / pairs <= 0.40
    assert 0.2 < drawn_samples / samples <= 0.37
    assert drawn_below / samples <= 0.28
