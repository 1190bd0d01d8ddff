"""What a worker hands in, and what is refused of it."""

import math

import pytest

from premem.errors import InputError
from premem.payloads.results import RowResult, check, encode
from premem.records import Answer, Grade

ANSWER = Answer(text="so 5", grade=Grade("right", "5"), tokens=3, finished=True)


def content(similarities: list[float], *, perplexity: float | None = 2.0) -> bytes:
    row = RowResult(row=0, perplexity=perplexity, target_tokens=5, answers=[ANSWER] * 2, similarities=similarities)
    return encode([row], produced_by={})


def test_similarities_come_back_as_they_were_measured():
    frame, _ = check(content([0.25, 1.0]), start=0, stop=1, samples=2, kind="train")

    assert frame["similarities"].to_list() == [[0.25, 1.0]]


@pytest.mark.parametrize(
    ("similarities", "message"),
    [
        ([], "needs 2 entries in similarities"),
        ([0.5], "needs 2 entries in similarities"),
        ([0.5, None], "needs 2 entries in similarities"),
        ([0.5, 1.1], "between 0 and 1"),
        ([0.5, -0.1], "between 0 and 1"),
        ([0.5, math.nan], "between 0 and 1"),
    ],
)
def test_training_rows_need_one_similarity_for_each_answer(similarities, message):
    with pytest.raises(InputError, match=message):
        check(content(similarities), start=0, stop=1, samples=2, kind="train")


def test_answers_to_test_questions_are_not_compared():
    check(content([], perplexity=None), start=0, stop=1, samples=2, kind="test")

    with pytest.raises(InputError, match="needs 0 entries in similarities"):
        check(content([0.5, 0.5], perplexity=None), start=0, stop=1, samples=2, kind="test")


def test_a_skipped_row_needs_none():
    skipped = encode([RowResult(row=0, skipped="too long")], produced_by={})

    assert check(skipped, start=0, stop=1, samples=2, kind="train")[0].height == 1
