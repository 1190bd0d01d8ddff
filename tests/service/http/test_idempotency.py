"""A POST that is sent again happens once."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select, update

from premem_service import garbage
from premem_service.storage.tables import idempotency
from tests.service.serving import on_sqlite


def request_for(dataset: str, name: str = "") -> dict:
    return {"dataset": dataset, "checkpoints": [{"path": "/runs/1"}], "name": name}


def jobs(client) -> int:
    return len(client.get("/v1/jobs").json()["items"])


def test_the_same_key_gets_the_same_answer_and_makes_one_job(client, dataset):
    answers = [client.post("/v1/jobs", json=request_for(dataset), headers={"Idempotency-Key": "one"}) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [202] * 3
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert answers[1].headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in answers[0].headers
    assert answers[1].headers["Location"] == answers[0].headers["Location"]
    assert answers[1].headers["Content-Type"] == answers[0].headers["Content-Type"]
    assert jobs(client) == 1


@on_sqlite
def test_without_a_key_every_post_makes_a_job(client, dataset):
    for _ in range(2):
        client.post("/v1/jobs", json=request_for(dataset))

    assert jobs(client) == 2


def test_a_key_for_another_body_is_refused(client, dataset):
    headers = {"Idempotency-Key": "one"}
    client.post("/v1/jobs", json=request_for(dataset, "first"), headers=headers)

    answer = client.post("/v1/jobs", json=request_for(dataset, "second"), headers=headers)

    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/idempotency-key-reused"
    assert jobs(client) == 1


def test_a_key_means_something_for_one_path_only(client, dataset, post_job):
    headers = {"Idempotency-Key": "one"}
    job = client.post("/v1/jobs", json=request_for(dataset), headers=headers).json()["id"]

    answer = client.post(f"/v1/jobs/{job}/cancel", headers=headers)

    assert answer.status_code == 202
    assert answer.json()["state"] == "cancelled"


def test_a_refusal_is_kept_too(client, dataset):
    headers = {"Idempotency-Key": "one"}
    body = {**request_for(dataset), "sampling": {"samples": 0}}

    first, second = (client.post("/v1/jobs", json=body, headers=headers) for _ in range(2))

    assert (first.status_code, second.status_code) == (422, 422)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.json() == first.json()


def test_an_answer_without_a_body_is_replayed(client):
    headers = {"Idempotency-Key": "one"}
    body = {"worker": "w", "engine": "fake"}

    answers = [client.post("/v1/tasks/lease", json=body, headers=headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204, 204]
    assert answers[1].headers["Retry-After"] == answers[0].headers["Retry-After"]


@on_sqlite
def test_an_upload_is_hashed_as_it_streams_and_replayed(client):
    headers = {"Idempotency-Key": "upload"}
    lines = b"".join(b'{"question": "%d + 0?", "answer": "#### %d"}\n' % (n, n) for n in range(2000))

    first = client.post("/v1/datasets", content=iter([lines[:100], lines[100:]]), headers=headers)
    second = client.post("/v1/datasets", content=lines, headers=headers)

    assert (first.status_code, second.status_code) == (201, 201)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.json() == first.json()


def test_of_requests_at_once_one_happens(client, dataset):
    answers = []

    def post() -> None:
        answers.append(client.post("/v1/jobs", json=request_for(dataset), headers={"Idempotency-Key": "one"}))

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {answer.status_code for answer in answers} <= {202, 409}
    assert sum("Idempotency-Replayed" not in a.headers for a in answers if a.status_code == 202) == 1
    assert {a.json()["type"] for a in answers if a.status_code == 409} <= {"/problems/idempotency-under-way"}
    assert jobs(client) == 1


def test_a_first_request_that_died_frees_its_key(client, app, dataset):
    headers = {"Idempotency-Key": "one"}
    client.post("/v1/jobs", json=request_for(dataset), headers=headers)
    change(app, request_sha256=None, status=None)
    under_way = client.post("/v1/jobs", json=request_for(dataset), headers=headers)
    change(app, created_at=0.0)

    answer = client.post("/v1/jobs", json=request_for(dataset), headers=headers)

    assert under_way.status_code == 409
    assert answer.status_code == 202
    assert jobs(client) == 2


def test_after_a_day_a_key_is_new_again(client, app, dataset):
    headers = {"Idempotency-Key": "one"}
    client.post("/v1/jobs", json=request_for(dataset), headers=headers)
    change(app, created_at=0.0)

    answer = client.post("/v1/jobs", json=request_for(dataset), headers=headers)

    assert "Idempotency-Replayed" not in answer.headers
    assert jobs(client) == 2


def test_old_answers_are_collected(client, app, dataset):
    client.post("/v1/jobs", json=request_for(dataset), headers={"Idempotency-Key": "old"})
    change(app, created_at=0.0)
    client.post("/v1/jobs", json=request_for(dataset), headers={"Idempotency-Key": "new"})

    garbage.collect(app.state.database, app.state.store, app.state.settings)

    with app.state.database.connect() as connection:
        assert connection.scalars(select(idempotency.c.key)).all() == ["new"]


@on_sqlite
def test_an_answer_of_the_server_at_fault_is_not_kept(client, app, dataset, tmp_path):
    headers = {"Idempotency-Key": "one"}
    body = b'{"question": "1 + 1?", "answer": "#### 2"}'
    artifacts = app.state.store.root
    artifacts.rename(tmp_path / "away")
    artifacts.write_text("no folder")
    broken = client.post("/v1/datasets", content=body, headers=headers)
    artifacts.unlink()
    (tmp_path / "away").rename(artifacts)

    mended = client.post("/v1/datasets", content=body, headers=headers)

    assert broken.status_code == 503
    assert mended.status_code == 201


@on_sqlite
@pytest.mark.parametrize("key", ["", "x" * 256, "two words"])
def test_a_key_that_is_none_is_refused(client, dataset, key):
    answer = client.post("/v1/jobs", json=request_for(dataset), headers={"Idempotency-Key": key})

    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/idempotency-key"


def change(app, **values) -> None:
    with app.state.database.begin() as connection:
        connection.execute(update(idempotency).values(**values))
