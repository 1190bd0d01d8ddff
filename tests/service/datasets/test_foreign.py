"""What is no upload that can be read: named for what it is, with what to do."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from premem.errors import BadLine, RowsError
from tests.service.datasets.reading_rows import read, read_csv
from tests.service.datasets.uploading import jsonl, refused, upload

ROW = {"question": "7 + 1?", "answer": "#### 8"}
LINE = json.dumps(ROW) + "\n"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (LINE.encode("utf-16-le"), "UTF-16 text: save it as UTF-8 (iconv -f UTF-16LE"),
        (LINE.encode("utf-16-be"), "UTF-16 text: save it as UTF-8 (iconv -f UTF-16BE"),
        (LINE.encode("utf-16"), "UTF-16 text"),
        (LINE.encode("utf-32"), "UTF-32 text"),
        (LINE.encode("utf-32-be"), "UTF-32 text"),
        (json.dumps([ROW]).encode("utf-16-le"), "UTF-16 text"),
        (b"\xfd7zXZ\0 and more", "an xz file: unpack it"),
        (b"rows.jsonl" + b"\0" * 247 + b"ustar\0" + b"\0" * 300, "a tar archive: unpack it"),
        (gzip.compress(b"rows.jsonl" + b"\0" * 247 + b"ustar\0", mtime=0), "a tar archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html>\n<html>", "a web page"),
        (b"\x80\x04\x95 pickled", "a pickle"),
        (b"question\tanswer\n7 + 1?\t8\n", "names of columns between tabs"),
        (b"question,answer\n7 + 1?,8\n", "names of columns between commas: send it as CSV"),
        (b'{\n "question": "7 + 1?",\n "answer": "8"\n}\n', "line 1 begins an object that goes on over several lines"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_to_do(content: bytes, named: str):
    with pytest.raises(RowsError) as caught:
        read(content)

    assert named in str(caught.value)


@pytest.mark.parametrize("ending", [LINE.encode(), b""])
def test_a_first_line_that_is_broken_is_a_bad_line_like_others(ending: bytes):
    (number, bad), *_ = read(b'{"question": "7 +\n' + ending)

    assert isinstance(bad, BadLine)
    assert number == 1
    assert "ends in the middle of a JSON value" in bad.message


def test_a_comma_behind_each_row_is_named():
    (_, bad), _ = read(LINE.strip().encode() + b",\n" + LINE.encode())

    assert isinstance(bad, BadLine)
    assert "has a comma behind its object" in bad.message


def test_one_line_around_all_rows_that_is_too_long_is_told_how_to_be_sent():
    ((_, bad),) = read(json.dumps({"data": [ROW] * 100}).encode(), max_row_bytes=1000)

    assert isinstance(bad, BadLine)
    assert "jq -c '.[\"data\"][]'" in bad.message


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"question;answer\n7 + 1?;8\n", "whose name holds semicolons: save the file with commas"),
        (b"question\tanswer\n7 + 1?\t8\n", "whose name holds tabs"),
        (b",question,answer\n0,7 + 1?,8\n", "to_csv(index=False)"),
        ("question,answer\n7 é?,8\n".encode("latin-1"), "it is not UTF-8"),
        (b'question,answer\n"say \\"8\\"",8\n', 'a quote within is doubled ("")'),
    ],
)
def test_a_csv_of_another_dialect_is_named(content: bytes, named: str):
    with pytest.raises(RowsError) as caught:
        read_csv(content)

    assert named in str(caught.value)


def test_rows_without_an_id_are_numbered(client: TestClient):
    rows = [{**ROW, "id": "a"}, {**ROW, "id": None}, ROW]

    dataset = upload(client, jsonl(rows))

    found = client.get(f"/v1/datasets/{dataset['id']}/preview").json()["rows"]
    assert [row["id"] for row in found] == ["a", "1", "2"]


def test_a_number_that_is_another_rows_id_says_where_it_comes_from(client: TestClient):
    problem = refused(client, jsonl([{**ROW, "id": 1}, {**ROW, "id": None}]))

    assert problem["errors"][0]["message"] == (
        "has the id of line 1: ids must be unique, and a row without one gets its number, from 0"
    )


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({"problem": "7 + 1?", "solution": "#### 8"}, ("problem", "solution", None)),
        ({"query": "7 + 1?", "response": "#### 8"}, ("query", "response", None)),
        ({"input": "7 + 1?", "output": "#### 8"}, ("input", "output", None)),
        (
            {"problem": "7 + 1?", "generated_solution": "#### 8", "expected_answer": "8"},
            ("problem", "generated_solution", "expected_answer"),
        ),
        ({"problem": "7 + 1?", "solution": "#### 8", "answer": "8"}, ("problem", "solution", "answer")),
    ],
)
def test_columns_of_data_sets_in_use_are_known(client: TestClient, row: dict[str, Any], parts: tuple[str, ...]):
    columns = upload(client, jsonl([row]))["columns"]

    assert (columns["question"], columns["trace"], columns["final_answer"]) == parts


def test_what_was_trained_on_are_the_messages_where_a_problem_stands_beside_them(client: TestClient):
    messages = [{"role": "user", "content": "7 + 1?"}, {"role": "assistant", "content": "#### 8"}]

    columns = upload(client, jsonl([{"problem": "7 + 1?", "solution": "8", "messages": messages}]))["columns"]

    assert columns["messages"] == "messages"
    assert columns["question"] is None


PROOF = "Suppose that there were fewer.\nThen one would be left over, which cannot be."


def test_a_trace_that_marks_no_answer_is_gradable_where_the_answer_stands_apart(client: TestClient):
    row = {"question": "How many?", "solution": PROOF, "final_answer": "$\\sqrt{2}$"}

    assert upload(client, jsonl([row]), grader="math")["ungradable"] == 0
    assert upload(client, jsonl([{"q": "How many?", "why": PROOF, "gold": "2"}]), grader="math", question="q",
                  trace="why", final_answer="gold")["ungradable"] == 0  # fmt: skip


def test_a_final_answer_that_cannot_be_compared_is_named(client: TestClient):
    row = {"question": "How many?", "solution": PROOF, "final_answer": "nobody knows"}

    problem = refused(client, jsonl([row]))

    assert (
        problem["errors"][0]["message"] == "the final answer, in its own column, is none that this grader can compare"
    )


def test_a_trace_that_marks_another_answer_is_ungradable(client: TestClient):
    row = {"question": "How many?", "solution": "It is $\\boxed{3}$.", "final_answer": "2"}

    problem = refused(client, jsonl([row]), grader="math")

    assert "not the one in its own column (final answer found: '3')" in problem["errors"][0]["message"]
