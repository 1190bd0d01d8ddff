"""More answers for a completed job, and tasks that go on from what a lost worker left."""

from __future__ import annotations

import io
import random

import polars as pl
import pytest

from premem.payloads.results import SCHEMA, decode, encode, metadata
from premem.records import Observation
from tests.service.serving import on_sqlite, upload
from tests.service.working import PRODUCED_BY, expire, lease, must_lease, put, result, work_off

PARTIAL = "/v1/tasks/{}/partial"
NAMES = ["checkpoint-1", "checkpoint-2"]


def drawing(samples: int):
    """The first answers of a row are the same however many there are."""

    def observe(checkpoint: str, row: int) -> Observation:
        by_heart = checkpoint == NAMES[-1] and row % 2 == 0
        right = random.Random(f"{checkpoint} {row}").randint(0, 4)
        return Observation(correct=min(right, samples), sampled=samples, perplexity=1.05 if by_heart else 2.0)

    return observe


def done(client, job: str, observe) -> dict:
    while (state := client.get(f"/v1/jobs/{job}").json())["state"] not in ("completed", "failed"):
        work_off(client, observe)
    assert state["state"] == "completed", state["errors"]
    return state


def resample(client, job: str, samples: int) -> str:
    answer = client.post(f"/v1/jobs/{job}/samples", json={"samples": samples})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def scores(client, job: str) -> dict[int, float]:
    items = client.get(f"/v1/jobs/{job}/examples", params={"limit": 1000}).json()["items"]
    return {item["row"]: item["pre_memorization_accuracy"] for item in items}


@pytest.mark.parametrize("trajectory", ["final", "full", "everything"])
def test_more_answers_go_on_from_those_that_there_are(client, post_job, trajectory):
    test = upload(client, rows=3, offset=900)
    few = post_job(sampling={"samples": 2}, trajectory=trajectory, test_dataset=test)
    before = done(client, few, drawing(2))
    at_once = post_job(sampling={"samples": 5}, trajectory=trajectory, test_dataset=test)
    whole = done(client, at_once, drawing(5))

    more = resample(client, few, 5)
    waiting = client.get(f"/v1/jobs/{more}").json()
    state = done(client, more, drawing(5))

    assert (state["kind"], state["parent"], state["sampling"]["samples"]) == ("resample", few, 5)
    assert scores(client, more) == scores(client, at_once)
    assert state["counts"]["samples"] < whole["counts"]["samples"]
    if trajectory == "everything":
        assert state["counts"]["samples"] == whole["counts"]["samples"] - before["counts"]["samples"]
        assert waiting["counts"]["examples"] == 0
    else:
        assert waiting["counts"]["examples"] == 24
    report = client.get(f"/v1/jobs/{more}/report").json()
    assert report["checkpoints"] == client.get(f"/v1/jobs/{at_once}/report").json()["checkpoints"]


@on_sqlite
@pytest.mark.parametrize("trajectory", ["final", "everything"])
def test_further_answers_that_are_graded_anew_count_once_and_cost_nothing(client, post_job, trajectory):
    few = post_job(sampling={"samples": 2}, trajectory=trajectory)
    done(client, few, drawing(2))
    more = resample(client, few, 5)
    done(client, more, drawing(5))
    kept = (
        client.get(f"/v1/jobs/{few}").json()["counts"]["samples"]
        + client.get(f"/v1/jobs/{more}").json()["counts"]["samples"]
    )

    job = client.post(f"/v1/jobs/{more}/regrade", json={"grader": {"name": "exact"}}).json()["id"]
    while (task := lease(client, engine=None)) is not None:
        source = client.get(f"/v1/tasks/{task['id']}/source").content
        assert put(client, task, source).status_code == 200

    counts = client.get(f"/v1/jobs/{job}").json()["counts"]
    assert counts["tokens"] == 0
    assert counts["samples"] >= kept
    assert done(client, job, drawing(5))["state"] == "completed"


@on_sqlite
def test_a_task_of_more_answers_brings_those_that_there_are(client, post_job):
    few = post_job(sampling={"samples": 2})
    done(client, few, drawing(2))
    resample(client, few, 5)

    task = must_lease(client)

    assert task["partial"]
    rows, _ = decode(client.get(PARTIAL.format(task["id"])).content)
    assert [len(row.answers) for row in rows] == [2] * 4


@on_sqlite
@pytest.mark.parametrize("samples", [2, 1])
def test_no_more_answers_than_there_are_is_refused(client, post_job, samples):
    job = post_job(sampling={"samples": 2})
    done(client, job, drawing(2))

    answer = client.post(f"/v1/jobs/{job}/samples", json={"samples": samples})

    assert answer.status_code == 422
    assert "samples" in answer.text


@on_sqlite
def test_more_answers_of_a_job_that_runs_are_refused(client, post_job):
    assert client.post(f"/v1/jobs/{post_job()}/samples", json={"samples": 9}).status_code == 409


def keep(client, task: dict, content: bytes, *, attempt: int | None = None):
    params = {"attempt": task["attempt"] if attempt is None else attempt}
    return client.put(PARTIAL.format(task["id"]), params=params, content=content)


def a_part(task: dict) -> bytes:
    rows, _ = decode(result(task, drawing(2)))
    rows[1].answers, rows[1].similarities = rows[1].answers[:1], rows[1].similarities[:1]
    return encode(rows[:2], produced_by=PRODUCED_BY)


def test_the_next_attempt_gets_what_a_lost_one_had_done(client, app, post_job):
    post_job(sampling={"samples": 2})
    task = must_lease(client)
    kept = keep(client, task, a_part(task))
    expire(app, task)

    again = must_lease(client, worker="another")

    assert kept.status_code == 204
    assert (again["id"], again["attempt"], again["partial"]) == (task["id"], 2, True)
    assert client.get(PARTIAL.format(task["id"])).content == a_part(task)
    assert keep(client, task, a_part(task)).status_code == 409
    assert put(client, again, result(again, drawing(2))).status_code == 200
    assert keep(client, again, a_part(task)).status_code == 409


@on_sqlite
def test_a_task_of_which_nothing_is_known_says_so(client, post_job):
    post_job()
    task = must_lease(client)

    assert not task["partial"]
    assert client.get(PARTIAL.format(task["id"])).status_code == 404


@on_sqlite
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda rows: [rows[1], rows[0]], "once"),
        (lambda rows: [*rows[:1], *rows[:1]], "once"),
    ],
)
def test_a_partial_result_with_other_rows_is_refused(client, post_job, spoil, told):
    post_job(sampling={"samples": 2})
    task = must_lease(client)
    rows, _ = decode(a_part(task))
    spoiled = [row.as_record() for row in spoil(rows)]
    out = io.BytesIO()
    pl.DataFrame(spoiled, schema=SCHEMA).write_parquet(out, metadata=metadata({}))

    answer = keep(client, task, out.getvalue())

    assert answer.status_code == 422
    assert told in answer.json()["detail"]
    assert keep(client, task, b"no parquet").status_code == 422
