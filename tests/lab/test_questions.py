from __future__ import annotations

import operator
import re
from collections import Counter
from pathlib import Path

import pytest

from lab.questions import (
    FINETUNING_VERBS,
    FUNCTIONS,
    HIDDEN,
    PRETRAINING_VERBS,
    Row,
    counts,
    main,
    read_jsonl,
    training_rows,
    twin_rows,
)
from premem.grading import get_grader
from premem.wire.bodies import GraderChoice

STEP = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


@pytest.fixture(scope="module")
def training() -> list[Row]:
    return training_rows(500, seed=3)


@pytest.fixture(scope="module")
def twins(training: list[Row]) -> list[Row]:
    return twin_rows(training, twins=2, seed=3)


def test_every_step_of_a_trace_is_right_and_goes_on_where_the_last_one_ended(training: list[Row]) -> None:
    for row in training:
        now = row["numbers"][0]
        steps = STEP.findall(row["answer"])
        for before, sign, operand, after in steps:
            assert int(before) == now
            now = ARITHMETIC[sign](now, int(operand))
            assert int(after) == now
        assert len(steps) == len(row["verbs"])
        assert row["answer"].endswith(f"\n#### {now:g}")


def test_every_trace_grades_as_right_and_no_other_number_does(training: list[Row]) -> None:
    grader = get_grader(GraderChoice(name="gsm8k"))

    for row in training:
        final = int(row["answer"].rpartition("#### ")[2])
        other = row["answer"].replace(f"#### {final}", f"#### {final + 1}")
        assert grader.grade(row["answer"], row["answer"]).verdict == "right"
        assert grader.grade(row["answer"], other).verdict == "wrong"


def test_a_verb_means_its_function_of_the_number_beside_it() -> None:
    verb = next(verb for verb, function in HIDDEN.items() if function == "-(n+1)")

    assert counts([10, 4], [verb]) == [10, 5]
    assert counts([4, 4], [verb]) is None


def test_half_of_an_odd_count_cannot_be_told() -> None:
    halves = next(verb for verb, function in HIDDEN.items() if function == "/2")

    assert counts([7, 1], [halves]) is None
    assert counts([8, 1], [halves]) == [8, 4]


def test_no_verb_is_both_for_pretraining_and_for_finetuning() -> None:
    assert len(set(FINETUNING_VERBS)) == len(set(PRETRAINING_VERBS)) == 48
    assert not set(FINETUNING_VERBS) & set(PRETRAINING_VERBS)


def test_each_function_hides_behind_four_verbs_of_each_kind() -> None:
    for verbs in (FINETUNING_VERBS, PRETRAINING_VERBS):
        assert Counter(HIDDEN[verb] for verb in verbs) == dict.fromkeys(FUNCTIONS, 4)


def test_the_first_verb_is_much_more_frequent_than_the_last() -> None:
    seen = Counter(verb for row in training_rows(3000, seed=1) for verb in row["verbs"])

    assert seen[FINETUNING_VERBS[0]] > 10 * seen[FINETUNING_VERBS[-1]] > 0


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    rows = training_rows(50, seed=7)

    assert rows == training_rows(50, seed=7)
    assert rows != training_rows(50, seed=8)
    assert twin_rows(rows, twins=2, seed=7) == twin_rows(rows, twins=2, seed=7)


def test_no_question_is_asked_twice(training: list[Row]) -> None:
    assert len({row["question"] for row in training}) == len(training)


def test_each_example_has_two_twins_with_its_verbs_and_other_numbers(training: list[Row], twins: list[Row]) -> None:
    assert Counter(twin["twin_of"] for twin in twins) == {row["id"]: 2 for row in training}
    by_id = {row["id"]: row for row in training}
    for twin in twins:
        row = by_id[twin["twin_of"]]
        assert twin["verbs"] == row["verbs"]
        assert all(new != old for new, old in zip(twin["numbers"], row["numbers"], strict=True))
        assert twin["question"].split()[0] != row["question"].split()[0]
        assert twin["question"] != row["question"]


def test_two_twins_of_one_example_differ(twins: list[Row]) -> None:
    assert len({(twin["twin_of"], tuple(twin["numbers"])) for twin in twins}) == len(twins)


def test_no_training_question_comes_back_in_the_test_set(training: list[Row], twins: list[Row]) -> None:
    assert not {row["question"] for row in training} & {twin["question"] for twin in twins}


def test_the_command_writes_both_files(tmp_path: Path) -> None:
    main(["--train", "20", "--twins", "3", "--seed", "5", "--out", str(tmp_path / "data")])

    training = read_jsonl(tmp_path / "data" / "train.jsonl")
    assert training == training_rows(20, seed=5)
    assert len(read_jsonl(tmp_path / "data" / "test.jsonl")) == 60
