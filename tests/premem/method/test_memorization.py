"""The metric: by hand for one example, and over arrays against the form for one example."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from premem.curation.policies import rank
from premem.errors import EmptyHistory
from premem.method.memorization import is_memorized, memorized, pre_memorization_accuracies, pre_memorization_accuracy
from premem.records import Observation


def seen(*, correct: int, perplexity: float, sampled: int = 4) -> Observation:
    return Observation(correct=correct, sampled=sampled, perplexity=perplexity)


def test_accuracy_after_memorizing_does_not_count():
    history = [seen(correct=1, perplexity=1.90), seen(correct=4, perplexity=1.01)]

    assert pre_memorization_accuracy(history, memorized_below=1.1) == 0.25


def test_the_best_accuracy_before_memorizing_counts():
    history = [seen(correct=3, perplexity=1.9), seen(correct=1, perplexity=1.5), seen(correct=4, perplexity=1.01)]

    assert pre_memorization_accuracy(history, memorized_below=1.1) == 0.75


def test_accuracy_now_is_a_cap():
    history = [seen(correct=3, perplexity=1.9), seen(correct=1, perplexity=1.8)]

    assert pre_memorization_accuracy(history, memorized_below=1.1) == 0.25


def test_an_example_that_was_memorized_from_the_start_scores_zero():
    history = [seen(correct=4, perplexity=1.05), seen(correct=4, perplexity=1.01)]

    assert pre_memorization_accuracy(history, memorized_below=1.1) == 0.0


def test_perplexity_at_the_threshold_is_not_memorized():
    assert not is_memorized(1.1, memorized_below=1.1)
    assert is_memorized(np.nextafter(1.1, 0), memorized_below=1.1)


def test_an_example_that_forgets_its_trace_counts_again():
    history = [seen(correct=2, perplexity=1.01), seen(correct=3, perplexity=1.5), seen(correct=4, perplexity=1.01)]

    assert pre_memorization_accuracy(history, memorized_below=1.1) == 0.75


def test_no_history_is_an_error_and_not_zero():
    with pytest.raises(EmptyHistory):
        pre_memorization_accuracy([], memorized_below=1.1)
    with pytest.raises(EmptyHistory):
        pre_memorization_accuracies(np.empty((0, 3)), np.empty((0, 3)), memorized_below=1.1)


def test_arrays_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="checkpoints × examples"):
        pre_memorization_accuracies(np.ones((2, 3)), np.ones((3, 2)), memorized_below=1.1)


def test_an_unknown_observation_makes_the_score_unknown_from_there_on():
    accuracy_CE = np.array([[0.5, 0.5], [np.nan, 0.5], [0.5, 0.5]])

    scores_CE = pre_memorization_accuracies(accuracy_CE, np.full((3, 2), 1.5), memorized_below=1.1)

    assert np.isnan(scores_CE[:, 0]).tolist() == [False, True, True]
    assert scores_CE[:, 1].tolist() == [0.5, 0.5, 0.5]


@st.composite
def runs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Counts of right answers and perplexities, checkpoints × examples, and the answers per pair."""
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 8)))
    sampled = draw(st.integers(1, 50))
    correct_CE = draw(arrays(np.int64, shape, elements=st.integers(0, sampled)))
    perplexity_CE = draw(arrays(np.float64, shape, elements=st.floats(1.0, 3.0)))
    return correct_CE, perplexity_CE, sampled


@given(run=runs(), memorized_below=st.floats(1.0, 3.0))
def test_both_forms_agree_exactly(run, memorized_below):
    correct_CE, perplexity_CE, sampled = run
    checkpoints, examples = correct_CE.shape

    scores_CE = pre_memorization_accuracies(correct_CE / sampled, perplexity_CE, memorized_below=memorized_below)

    for e in range(examples):
        history = [
            Observation(correct=int(correct_CE[c, e]), sampled=sampled, perplexity=float(perplexity_CE[c, e]))
            for c in range(checkpoints)
        ]
        for c in range(checkpoints):
            expected = pre_memorization_accuracy(history[: c + 1], memorized_below=memorized_below)
            assert scores_CE[c, e] == expected


@given(run=runs(), memorized_below=st.floats(1.0, 3.0))
def test_a_score_never_exceeds_the_last_accuracy(run, memorized_below):
    correct_CE, perplexity_CE, sampled = run

    scores_CE = pre_memorization_accuracies(correct_CE / sampled, perplexity_CE, memorized_below=memorized_below)

    assert (scores_CE <= correct_CE / sampled).all()


@given(run=runs(), lower=st.floats(1.0, 3.0), higher=st.floats(1.0, 3.0))
def test_lowering_the_threshold_never_lowers_a_score(run, lower, higher):
    lower, higher = sorted((lower, higher))
    correct_CE, perplexity_CE, sampled = run

    under_lower = pre_memorization_accuracies(correct_CE / sampled, perplexity_CE, memorized_below=lower)
    under_higher = pre_memorization_accuracies(correct_CE / sampled, perplexity_CE, memorized_below=higher)

    assert (under_lower >= under_higher).all()


@given(run=runs(), order=st.randoms())
def test_permuting_examples_permutes_scores(run, order):
    correct_CE, perplexity_CE, sampled = run
    permutation = list(range(correct_CE.shape[1]))
    order.shuffle(permutation)

    scores_CE = pre_memorization_accuracies(correct_CE / sampled, perplexity_CE, memorized_below=1.5)
    permuted_CE = pre_memorization_accuracies(
        correct_CE[:, permutation] / sampled, perplexity_CE[:, permutation], memorized_below=1.5
    )

    assert (scores_CE[:, permutation] == permuted_CE).all()


def test_the_five_rows_of_the_documentation_are_scored_and_ranked_as_it_says():
    text = (Path(__file__).parents[3] / "docs" / "explanation" / "method.md").read_text()
    rows = re.findall(r"^\| ([a-e]) \| (.+?) \| (.+?) \| (.+?) \| .+? \| .+? \| \*\*(.+?)\*\* \|$", text, re.MULTILINE)
    pairs_EC = np.array([[[float(n) for n in cell.rstrip("\\*").split(", ")] for cell in row[1:4]] for row in rows])
    accuracy_CE, perplexity_CE = pairs_EC.transpose(2, 1, 0)

    score_E = pre_memorization_accuracies(accuracy_CE, perplexity_CE, memorized_below=1.10)[-1]
    ranking = ", ".join(rows[place][0] for place in rank(score_E, accuracy_CE, perplexity_CE))

    assert score_E.tolist() == [float(row[4]) for row in rows]
    assert len(rows) == 5
    assert f"hardest first: {ranking} (" in text.replace("\n", " ")


def test_memorized_marks_what_lies_under_the_threshold():
    assert memorized(np.array([[1.05, 1.1, 1.2]]), memorized_below=1.1).tolist() == [[True, False, False]]
