"""Which grader a data set gets where nobody names one."""

import json
from pathlib import Path

import pytest

from premem.grading.choosing import choose_grader

REAL = Path(__file__).parents[3] / "../shared/data"


@pytest.mark.parametrize(
    ("references", "name"),
    [
        (["2 + 3 = 5\n#### 5", "#### 7"], "gsm8k"),
        (["5 + 2 = 7\n#### 7\nThe answer is: 7"], "gsm8k"),
        (["so $\\boxed{5}$", "\\boxed{x+1}", "no box"], "math"),
        (["$\\frac{1}{2}$", "x^2", "7"], "math"),
        (["2\\sqrt{3}", "(1, 2)"], "math"),
        (["A", "B", "D"], "choice"),
        (["(A)", "B. a lens", "C) a prism", "d"], "choice"),
        (["Light bends.\nAnswer: D", "It is hot. The answer is B."], "choice"),
        (["<think>A?</think>B", "C"], "choice"),
        (["5", "7.5", "1,000"], "gsm8k"),
        (["Paris", "A dog", "I see"], "gsm8k"),
        ([], "gsm8k"),
    ],
)
def test_the_form_of_the_references_chooses(references, name):
    assert choose_grader(references).grader.name == name


def test_letters_reach_as_far_as_the_references():
    assert choose_grader(["A", "E"]).grader.options == {}
    assert choose_grader(["A", "F"]).grader.options == {"letters": "ABCDEFGHIJ"}
    assert choose_grader(["A", "P"]).grader.options == {"letters": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def test_traces_decide_where_final_answers_are_bare():
    assert choose_grader(["5", "7"], ["so \\boxed{5}", "so \\boxed{7}"]).grader.name == "math"
    assert choose_grader(["B", "C"], ["so \\boxed{5}", "so \\boxed{7}"]).grader.name == "choice"


def test_the_reason_is_said():
    assert choose_grader(["#### 5", "#### 7"]).reason == "100% of the references have an answer after ####"
    assert choose_grader(["A", "C"]).reason == "100% of the references name an option, up to C"


def test_gsm8k_s_own_references_choose_gsm8k():
    path = REAL / "gsm8k/test.jsonl"
    if not path.exists():
        pytest.skip("GSM8K's test.jsonl is not on this machine")

    assert choose_grader([json.loads(line)["answer"] for line in path.read_text().splitlines()]).grader.name == "gsm8k"
