from __future__ import annotations

import gzip
import io
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import uvicorn
import zstandard
from fastapi import FastAPI
from fastapi.testclient import TestClient

from premem_service.storage.store import Store, StoreFull
from tests.service.datasets.uploading import as_frame, files, jsonl, left, refused, rows, upload, wait_until
from tests.service.serving import POSTGRES

PARQUET = "application/vnd.apache.parquet"


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLite where a test does not ask for both."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path / 'premem.db'}"
    url: str = request.getfixturevalue("empty_postgres")
    return url


on_both_databases = pytest.mark.parametrize("database_url", ["sqlite", POSTGRES], indirect=True)


@pytest.fixture
def served(app: FastAPI) -> Iterator[tuple[str, int]]:
    """The service on a real socket: address and port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield listener.getsockname()
        server.should_exit = True
        thread.join()


# Uploading


@on_both_databases
def test_an_upload_becomes_a_data_set(client: TestClient):
    response = client.post("/v1/datasets", content=jsonl(rows(3)), params={"name": "sums"})

    dataset = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/datasets/{dataset['id']}"
    assert dataset["id"].startswith("ds_")
    assert len(dataset["id"]) == len("ds_") + 24
    assert (dataset["name"], dataset["rows"], dataset["ungradable"]) == ("sums", 3, 0)
    assert dataset["columns"] == {
        "question": "question",
        "trace": "answer",
        "final_answer": None,
        "id": None,
        "messages": None,
    }
    assert dataset["grader"]["name"] == "gsm8k"
    assert client.get(f"/v1/datasets/{dataset['id']}").json() == dataset


def test_its_rows_come_back_with_all_their_columns(client: TestClient):
    uploaded = rows(3, source={"page": 7, "tags": ["é", None]}, id="")
    for number, row in enumerate(uploaded):
        row["id"] = f"row-{number}"
    dataset = upload(client, jsonl(uploaded))

    response = client.get(f"/v1/datasets/{dataset['id']}/rows", params={"start": 1, "stop": 3})

    frame = as_frame(response)
    assert response.headers["content-type"] == PARQUET
    assert dict(frame.schema) == {
        "row": pl.Int64,
        "id": pl.String,
        "question": pl.String,
        "trace": pl.String,
        "final_answer": pl.String,
        "columns": pl.String,
    }
    assert frame["row"].to_list() == [1, 2]
    assert frame["id"].to_list() == ["row-1", "row-2"]
    assert frame["question"].to_list() == ["What is 1 + 1?", "What is 2 + 1?"]
    assert frame["trace"].to_list() == ["One more.\n#### 2", "One more.\n#### 3"]
    assert frame["final_answer"].to_list() == [None, None]
    assert [json.loads(columns) for columns in frame["columns"]] == uploaded[1:]


def test_the_same_rows_are_the_same_data_set_in_every_format(client: TestClient):
    uploaded = rows(100, id=0)
    for number, row in enumerate(uploaded):
        row["id"] = number
    parquet = io.BytesIO()
    pl.DataFrame(uploaded).write_parquet(parquet)
    plain = jsonl(uploaded)
    first = upload(client, plain, name="first")
    artifacts = left(client)

    spaced = plain.replace(b'": "', b'" :   "').replace(b"\n", b"\r\n\r\n")
    for content in (plain, spaced, gzip.compress(plain), zstandard.compress(plain), parquet.getvalue()):
        response = client.post("/v1/datasets", content=content, params={"name": "again"})

        assert response.status_code == 200
        assert response.json() == first
    assert left(client) == artifacts


def test_other_rows_another_order_grader_or_mapping_are_another_data_set(client: TestClient):
    uploaded = rows(3, other="")
    for number, row in enumerate(uploaded):
        row["other"] = f"#### {number + 1}"
    ids = {
        upload(client, jsonl(uploaded))["id"],
        upload(client, jsonl(uploaded[::-1]))["id"],
        upload(client, jsonl(uploaded[:2]))["id"],
        upload(client, jsonl(uploaded), grader="exact")["id"],
        upload(client, jsonl(uploaded), trace="other")["id"],
    }

    assert len(ids) == 5


@on_both_databases
def test_two_identical_uploads_at_once_are_one_data_set(client: TestClient):
    content = jsonl(rows(3000))
    together = threading.Barrier(4)

    def send(_: int) -> httpx.Response:
        together.wait()
        return client.post("/v1/datasets", content=content)

    with ThreadPoolExecutor(4) as threads:
        responses = list(threads.map(send, range(4)))

    assert sorted(response.status_code for response in responses) == [200, 200, 200, 201]
    assert len({response.json()["id"] for response in responses}) == 1
    assert len(left(client)) == 1


def test_numbers_as_final_answers_and_messages_are_taken(client: TestClient):
    chat = [{"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "It is 5."}]

    dataset = upload(client, jsonl([{"messages": chat, "answer": 5}]))

    frame = as_frame(client.get(f"/v1/datasets/{dataset['id']}/rows"))
    assert frame.row(0)[1:5] == ("0", "2 + 3?", "It is 5.", "5")
    assert dataset["columns"]["messages"] == "messages"


def test_a_form_holds_one_file(client: TestClient):
    content = jsonl(rows(5000))

    response = client.post("/v1/datasets", files={"file": ("rows.jsonl", content)})

    assert response.status_code == 201
    assert response.json()["id"] == upload(client, content)["id"]


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"files": {"rows": b"{}"}}, "the form has a field 'rows'; it may hold one file, in the field 'file'"),
        ({"files": [("file", b"{}"), ("file", b"{}")]}, "two files"),
        ({"content": b"--x--\r\n"}, "no field named 'file'"),
        ({"content": b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n{"a'}, "the form ends too early"),
        ({"content": b"nothing of the kind"}, "the form cannot be read"),
    ],
)
def test_a_wrong_form_is_explained(client: TestClient, form: dict[str, Any], message: str):
    headers = {"Content-Type": "multipart/form-data; boundary=x"} if "content" in form else {}

    response = client.post("/v1/datasets", **form, headers=headers)

    assert response.status_code == 422
    assert message in response.json()["detail"]
    assert left(client) == []


def test_the_upload_says_in_openapi_what_it_takes_and_answers(client: TestClient):
    upload = client.get("/openapi.json").json()["paths"]["/v1/datasets"]["post"]

    assert set(upload["requestBody"]["content"]) == {"application/jsonl", PARQUET, "text/csv", "multipart/form-data"}
    assert {"200", "201", "401", "413", "422", "503", "507"} <= set(upload["responses"])
    assert "application/problem+json" in upload["responses"]["422"]["content"]


# Refusing


def test_bad_lines_are_listed_by_number_and_nothing_is_kept(client: TestClient):
    lines = jsonl(rows(18_000)).splitlines(keepends=True)
    lines[16_500] = b'{"question": "no end\n'
    lines[17_000] = b'{"question": "", "answer": "#### 1"}\n'

    problem = refused(client, b"".join(lines))

    assert problem["type"] == "/problems/rows"
    assert problem["total"] == 2
    assert [(error["line"], error["field"]) for error in problem["errors"]] == [(16_501, None), (17_001, "question")]
    assert "ends in the middle of a JSON value" in problem["errors"][0]["message"]
    assert problem["errors"][1]["message"] == "is empty"
    assert problem["detail"].startswith("2 lines cannot be taken, and nothing was kept: line 16501: ends in the")


def test_only_the_first_hundred_bad_lines_are_listed_and_all_are_counted(client: TestClient):
    problem = refused(client, jsonl(rows(1)) + b"nonsense\n" * 1234)

    assert problem["total"] == 1234
    assert [error["line"] for error in problem["errors"]] == list(range(2, 102))
    assert "the first 100 are listed" in problem["detail"]


def test_a_repeated_id_names_both_lines(client: TestClient):
    uploaded = rows(2000, id="")
    for number, row in enumerate(uploaded):
        row["id"] = str(number)
    uploaded[1500]["id"] = uploaded[1700]["id"] = "40"

    problem = refused(client, jsonl(uploaded))

    assert problem["total"] == 2
    assert problem["errors"] == [
        {"line": 1501, "field": "id", "message": "has the id of line 41: ids must be unique"},
        {"line": 1701, "field": "id", "message": "has the id of line 41: ids must be unique"},
    ]


def test_a_missing_column_names_those_that_are_there(client: TestClient):
    problem = refused(client, b'{"puzzle": "2 + 3?", "answer": "#### 5"}\n')

    assert "the columns of line 1 are 'puzzle', 'answer'" in problem["detail"]
    assert "?question=NAME" in problem["detail"]
    assert problem["errors"] == [{"line": 1, "field": "question", "message": "no column holds the question"}]


@pytest.mark.parametrize("content", [b"", b"\n\n", gzip.compress(b"", mtime=0)])
def test_an_empty_upload_is_refused(client: TestClient, content: bytes):
    assert refused(client, content)["detail"] == "the upload holds no rows"


def test_a_truncated_stream_is_refused_though_shards_were_stored(client: TestClient):
    whole = gzip.compress(jsonl(rows(17_000)))

    problem = refused(client, whole[:-10])

    assert "no whole gzip stream" in problem["detail"]


def test_references_that_do_not_grade_as_right_are_counted_and_listed(client: TestClient):
    uploaded = rows(100)
    uploaded[6]["answer"] = uploaded[9]["answer"] = "No number at all."

    dataset = upload(client, jsonl(uploaded))

    assert dataset["ungradable"] == 2
    assert [line["line"] for line in dataset["ungradable_lines"]] == [7, 10]
    assert "no final answer" in dataset["ungradable_lines"][0]["message"]


def test_a_final_answer_that_the_trace_does_not_reach_is_ungradable(client: TestClient):
    uploaded = [{"question": "2 + 3?", "trace": "#### 5", "answer": answer} for answer in ("5", "6")]

    dataset = upload(client, jsonl(uploaded), max_ungradable=0.5)

    assert [line["line"] for line in dataset["ungradable_lines"]] == [2]
    assert "not the one in its own column (final answer found: '5')" in dataset["ungradable_lines"][0]["message"]


def test_too_many_of_them_are_refused(client: TestClient):
    uploaded = rows(20_000)
    for row in uploaded[:1001]:
        row["answer"] = "No number at all."

    problem = refused(client, jsonl(uploaded))

    assert problem["total"] == 1001
    assert len(problem["errors"]) == 100
    assert "1,001 of 20,000 rows (5.0%) do not grade as right by the grader 'gsm8k'" in problem["detail"]
    assert upload(client, jsonl(uploaded), max_ungradable=0.06)["ungradable"] == 1001


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"grader": "oracle"}, "grader"),
        ({"grader_options": "not json"}, "grader_options"),
        ({"grader_options": "[1]"}, "grader_options"),
        ({"grader_options": "[" * 10_000}, "grader_options"),
        ({"grader_options": '{"no_such_option": 1}'}, "grader"),
        ({"max_ungradable": "2"}, "max_ungradable"),
        ({"name": "a\0b"}, "name"),
    ],
)
def test_a_wrong_parameter_is_named(client: TestClient, params: dict[str, str], field: str):
    problem = refused(client, jsonl(rows(2)), **params)

    assert problem["type"] == "/problems/validation"
    assert [error["field"] for error in problem["errors"]] == [field]


def test_an_unknown_content_encoding_is_refused(client: TestClient):
    response = client.post("/v1/datasets", content=jsonl(rows(1)), headers={"Content-Encoding": "br"})

    assert response.status_code == 422
    assert "'br' is not known" in response.json()["detail"]


def test_an_upload_past_the_limit_is_too_large(app: FastAPI, client: TestClient):
    app.state.settings.max_upload_bytes = 2**20

    problem = refused(client, jsonl(rows(20_000)), status=413)

    assert problem["type"] == "/problems/too-large"


class FullStore(Store):
    """Has room for one artifact."""

    def put(self, name: str, content: bytes | Path) -> int:
        if list(self.list()):
            raise StoreFull(f"no room is left to write {name}: free some space and try again")
        return super().put(name, content)


def test_a_full_disk_is_said_and_what_was_written_is_gone(app: FastAPI, client: TestClient, tmp_path: Path):
    app.state.store = FullStore(tmp_path / "artifacts")

    problem = refused(client, jsonl(rows(40_000)), status=507)

    assert problem["type"] == "/problems/store-full"
    assert "free some space" in problem["detail"]


# Over a real connection


def test_a_client_that_goes_away_leaves_nothing(app: FastAPI, served: tuple[str, int]):
    content = jsonl(rows(40_000))
    with socket.create_connection(served) as connection:
        head = f"POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content[:-1000])
        wait_until(lambda: len(files(app)) >= 1)

    wait_until(lambda: files(app) == [])
    assert httpx.get(f"http://{served[0]}:{served[1]}/v1/datasets").json()["items"] == []


def test_a_client_that_is_still_sending_hears_the_answer(served: tuple[str, int]):
    host, port = served

    def content() -> Iterator[bytes]:
        yield b"PK\x03\x04 and more"
        for _ in range(300):
            yield b" " * 2**16

    response = httpx.post(f"http://{host}:{port}/v1/datasets", content=content(), timeout=30)

    assert response.status_code == 422
    assert "a zip archive" in response.json()["detail"]


def test_a_million_bytes_in_tiny_chunks_are_one_upload(served: tuple[str, int]):
    host, port = served
    content = jsonl(rows(3000))

    pieces = (content[start : start + 100] for start in range(0, len(content), 100))
    response = httpx.post(f"http://{host}:{port}/v1/datasets", content=pieces, timeout=30)

    assert response.status_code == 201
    assert response.json()["rows"] == 3000
