from __future__ import annotations

import gzip
import io
import json
import socket
import threading
import time
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
from sqlalchemy import insert, select

from service import datasets as routes
from service.store import Store, StoreFull
from service.tables import dataset_shards, jobs
from tests.service.conftest import POSTGRES

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


def rows(count: int, **extra: Any) -> list[dict[str, Any]]:
    return [{"question": f"What is {n} + 1?", "answer": f"One more.\n#### {n + 1}", **extra} for n in range(count)]


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def upload(client: TestClient, content: bytes, **params: Any) -> dict[str, Any]:
    response = client.post("/v1/datasets", content=content, params=params)
    assert response.status_code in (200, 201), response.text
    return response.json()


def refused(client: TestClient, content: bytes, status: int = 422, **params: Any) -> dict[str, Any]:
    """The problem that an upload gets; and nothing of it was kept."""
    response = client.post("/v1/datasets", content=content, params=params)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert left(client) == []
    return response.json()


def left(client: TestClient) -> list[str]:
    app = client.app
    assert isinstance(app, FastAPI)
    return files(app)


def files(app: FastAPI) -> list[str]:
    """All files of the service: artifacts and temporary ones."""
    temporary = app.state.settings.data_dir / "temporary"
    under_way = [path.name for path in temporary.iterdir()] if temporary.exists() else []
    return [artifact.name for artifact in app.state.store.list()] + under_way


def as_frame(response: httpx.Response) -> pl.DataFrame:
    assert response.status_code == 200, response.text
    return pl.read_parquet(io.BytesIO(response.content))


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

    assert set(upload["requestBody"]["content"]) == {"application/jsonl", PARQUET, "multipart/form-data"}
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
    problem = refused(client, b'{"problem": "2 + 3?", "answer": "#### 5"}\n')

    assert "the columns of line 1 are 'problem', 'answer'" in problem["detail"]
    assert "?question=NAME" in problem["detail"]
    assert problem["errors"] == [{"line": 1, "field": "question", "message": "no column holds the question"}]


@pytest.mark.parametrize("content", [b"", b"\n\n", gzip.compress(b"")])
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
    assert "does not grade as right (final answer found: '5')" in dataset["ungradable_lines"][0]["message"]


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
        yield b"[1, 2]\n"
        for _ in range(300):
            yield b" " * 2**16

    response = httpx.post(f"http://{host}:{port}/v1/datasets", content=content(), timeout=30)

    assert response.status_code == 422
    assert "one JSON array" in response.json()["detail"]


def test_a_million_bytes_in_tiny_chunks_are_one_upload(served: tuple[str, int]):
    host, port = served
    content = jsonl(rows(3000))

    pieces = (content[start : start + 100] for start in range(0, len(content), 100))
    response = httpx.post(f"http://{host}:{port}/v1/datasets", content=pieces, timeout=30)

    assert response.status_code == 201
    assert response.json()["rows"] == 3000


def wait_until(condition: Any, *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


# Reading and deleting


def test_rows_are_read_across_shards(app: FastAPI, client: TestClient):
    dataset = upload(client, jsonl(rows(40_000)))["id"]

    frame = as_frame(client.get(f"/v1/datasets/{dataset}/rows", params={"start": 16_000, "stop": 33_000}))

    assert frame["row"].to_list() == list(range(16_000, 33_000))
    assert frame["question"].to_list() == [f"What is {n} + 1?" for n in range(16_000, 33_000)]
    with app.state.database.connect() as connection:
        shards = connection.execute(select(dataset_shards.c.start, dataset_shards.c.stop)).all()
    assert sorted(map(tuple, shards)) == [(0, 16_384), (16_384, 32_768), (32_768, 40_000)]


def test_all_rows_are_read_where_no_range_is_given(client: TestClient):
    dataset = upload(client, jsonl(rows(10)))["id"]

    assert as_frame(client.get(f"/v1/datasets/{dataset}/rows")).height == 10
    assert as_frame(client.get(f"/v1/datasets/{dataset}/rows?start=8")).height == 2


@pytest.mark.parametrize("query", ["start=10", "start=5&stop=5", "start=6&stop=5", "stop=11", "start=-1", "start=a"])
def test_rows_that_are_not_there_are_refused(client: TestClient, query: str):
    dataset = upload(client, jsonl(rows(10)))["id"]

    response = client.get(f"/v1/datasets/{dataset}/rows?{query}")

    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


def test_at_most_a_hundred_thousand_rows_are_read_at_once(client: TestClient):
    dataset = upload(client, b'{"question": "q", "answer": "1"}\n' * 100_001)["id"]

    assert client.get(f"/v1/datasets/{dataset}/rows?stop=100001").status_code == 422
    assert as_frame(client.get(f"/v1/datasets/{dataset}/rows")).height == 100_000


def test_rows_at_positions_come_in_their_order(app: FastAPI, client: TestClient):
    dataset = upload(client, jsonl(rows(20_000)))["id"]
    positions = [19_999, 3, 16_384, 3, 0]

    frame = routes.read_rows_at(app.state.database, app.state.store, dataset, positions)

    assert frame["row"].to_list() == positions
    assert frame["question"].to_list() == [f"What is {n} + 1?" for n in positions]
    assert routes.read_rows_at(app.state.database, app.state.store, dataset, []).height == 0
    with pytest.raises(IndexError, match="no row 20000"):
        routes.read_rows_at(app.state.database, app.state.store, dataset, [0, 20_000])


@on_both_databases
def test_the_list_is_paged_newest_first(client: TestClient):
    ids = [upload(client, jsonl(rows(count)))["id"] for count in range(1, 6)]

    seen: list[str] = []
    cursor = None
    while True:
        page = client.get("/v1/datasets", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [dataset["id"] for dataset in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == ids[::-1]


@pytest.mark.parametrize("cursor", ["nonsense", "bm9uZQ", "é"])
def test_a_made_up_cursor_is_refused(client: TestClient, cursor: str):
    assert client.get("/v1/datasets", params={"cursor": cursor}).status_code == 422


@on_both_databases
def test_a_deleted_data_set_and_its_files_are_gone(client: TestClient):
    dataset = upload(client, jsonl(rows(20_000)))["id"]

    response = client.delete(f"/v1/datasets/{dataset}")

    assert response.status_code == 204
    assert left(client) == []
    for again in (client.get(f"/v1/datasets/{dataset}"), client.get(f"/v1/datasets/{dataset}/rows")):
        assert again.status_code == 404
        assert again.json()["type"] == "/problems/not-found"
    assert client.delete(f"/v1/datasets/{dataset}").status_code == 404


@on_both_databases
@pytest.mark.parametrize("part", ["dataset", "test_dataset"])
def test_a_data_set_that_a_job_uses_is_not_deleted(app: FastAPI, client: TestClient, part: str):
    used, other = (upload(client, jsonl(rows(count)))["id"] for count in (2, 3))
    with app.state.database.begin() as connection:
        connection.execute(insert(jobs).values(job({"dataset": other, part: used})))

    response = client.delete(f"/v1/datasets/{used}")

    assert response.status_code == 409
    assert "the job job_1 uses" in response.json()["detail"]
    assert as_frame(client.get(f"/v1/datasets/{used}/rows")).height == 2


def job(change: dict[str, Any]) -> dict[str, Any]:
    row = {"id": "job_1", "number": 1, "name": "", "state": "queued", "open": False, "request": {}, "created_at": 1.0}
    return {
        **row,
        "threshold_basis": "quantile",
        "threshold_source": "",
        "warnings": [],
        "finalizing_attempts": 0,
        **change,
    }


@on_both_databases
def test_a_data_set_that_lost_a_file_says_so_and_is_restored_by_the_same_upload(app: FastAPI, client: TestClient):
    content = jsonl(rows(20_000))
    dataset = upload(client, content)["id"]
    artifact = next(name for name in left(client) if name.endswith("/16384.parquet"))
    app.state.store.delete([artifact])

    response = client.get(f"/v1/datasets/{dataset}/rows?start=16000&stop=17000")
    intact = client.get(f"/v1/datasets/{dataset}/rows?start=0&stop=1000")
    restored = client.post("/v1/datasets", content=content)

    assert response.status_code == 500
    assert response.json()["type"] == "/problems/artifact-lost"
    assert f"the data set {dataset} has lost a file" in response.json()["detail"]
    assert as_frame(intact).height == 1000
    assert restored.status_code == 200
    assert as_frame(client.get(f"/v1/datasets/{dataset}/rows")).height == 20_000
    assert len(left(client)) == 2
