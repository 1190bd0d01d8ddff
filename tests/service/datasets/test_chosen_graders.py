"""An upload that names no grader gets one by its references, and the reply says why."""

import pytest
from fastapi.testclient import TestClient

from tests.service.datasets.uploading import jsonl, refused, upload


def answered(*answers: str) -> bytes:
    return jsonl([{"question": f"Question {number}", "answer": answer} for number, answer in enumerate(answers)])


@pytest.mark.parametrize(
    ("answers", "name", "options"),
    [
        (["so\n#### 5", "so\n#### 7"], "gsm8k", {}),
        (["so \\boxed{5}", "so \\boxed{7}"], "math", {}),
        (["B", "C. a lens"], "choice", {}),
        (["B", "H"], "choice", {"letters": "ABCDEFGHIJ"}),
    ],
)
def test_the_references_choose(client: TestClient, answers: list[str], name: str, options: dict[str, str]):
    dataset = upload(client, answered(*answers))

    assert (dataset["grader"]["name"], dataset["grader"]["options"]) == (name, options)
    assert dataset["grader_reason"].startswith("100% of the references")
    assert client.get(f"/v1/datasets/{dataset['id']}").json() == dataset


def test_a_named_grader_is_taken_without_a_reason(client: TestClient):
    dataset = upload(client, answered("#### 5", "#### 7"), grader="exact")

    assert (dataset["grader"]["name"], dataset["grader_reason"]) == ("exact", None)


def test_a_named_and_a_chosen_grader_make_one_data_set(client: TestClient):
    chosen = upload(client, answered("#### 5", "#### 7"))
    named = upload(client, answered("#### 5", "#### 7"), grader="gsm8k")

    assert named["id"] == chosen["id"]


def test_options_need_their_grader(client: TestClient):
    problem = refused(client, answered("#### 5"), grader_options='{"rounding": 2}')

    assert "name the grader that grader_options are for" in str(problem)
