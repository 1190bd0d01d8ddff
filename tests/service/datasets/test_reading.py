from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import insert, select

from premem_service.datasets import reading
from premem_service.storage.tables import dataset_shards, jobs
from tests.service.datasets.uploading import as_frame, jsonl, left, rows, upload


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

    frame = reading.read_rows_at(app.state.database, app.state.store, dataset, positions)

    assert frame["row"].to_list() == positions
    assert frame["question"].to_list() == [f"What is {n} + 1?" for n in positions]
    part = reading.read_rows_at(app.state.database, app.state.store, dataset, positions, columns=["question", "row"])
    assert part.equals(frame.select("question", "row"))
    assert reading.read_rows_at(app.state.database, app.state.store, dataset, []).height == 0
    with pytest.raises(IndexError, match="no row 20000"):
        reading.read_rows_at(app.state.database, app.state.store, dataset, [0, 20_000])


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


def test_a_deleted_data_set_and_its_files_are_gone(client: TestClient):
    dataset = upload(client, jsonl(rows(20_000)))["id"]

    response = client.delete(f"/v1/datasets/{dataset}")

    assert response.status_code == 204
    assert left(client) == []
    for again in (client.get(f"/v1/datasets/{dataset}"), client.get(f"/v1/datasets/{dataset}/rows")):
        assert again.status_code == 404
        assert again.json()["type"] == "/problems/not-found"
    assert client.delete(f"/v1/datasets/{dataset}").status_code == 404


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
