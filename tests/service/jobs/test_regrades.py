"""Grading anew: a job whose tasks start from the answers of another one."""

from __future__ import annotations

import pytest

from premem.payloads.results import decode, encode
from premem.records import Answer, Grade, Observation
from tests.service.serving import on_sqlite, upload
from tests.service.working import ended, lease, must_lease, put, result, work_off

EXACT = {"name": "exact"}
SOURCE = "/v1/tasks/{}/source"


def observe(checkpoint: str, row: int) -> Observation:
    return Observation(correct=row % 3, sampled=2, perplexity=1.1 if row == 11 else 2.0)


@pytest.fixture
def graded(client, post_job) -> str:
    job = post_job(test_dataset=upload(client, rows=5, offset=500), shard_rows=12)
    work_off(client, observe)
    ended(client, job)
    return job


def regrade(client, job: str, **body) -> str:
    answer = client.post(f"/v1/jobs/{job}/regrade", json={"grader": EXACT, **body})
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
    return answer.json()["id"]


def work_off_stricter(client) -> int:
    """A grader that sees the first answer of each row as wrong, if it saw it as right before."""
    done = 0
    while (task := lease(client, engine=None)) is not None:
        rows, produced_by = decode(client.get(SOURCE.format(task["id"])).content)
        for row in rows:
            first = row.answers[0]
            row.answers[0] = Answer(first.text, Grade("wrong", "0"), first.tokens, first.finished)
        assert put(client, task, encode(rows, produced_by=produced_by)).status_code == 200
        done += 1
    return done


def test_answers_are_graded_anew_by_workers_without_an_engine(client, graded):
    job = regrade(client, graded)

    done = work_off_stricter(client)

    state = ended(client, job)
    report = client.get(f"/v1/jobs/{job}/report").json()
    page = client.get(f"/v1/jobs/{job}/examples", params={"limit": 12}).json()["items"]
    detail = client.get(f"/v1/jobs/{job}/examples/2").json()
    assert done == 4
    assert (state["state"], state["kind"], state["parent"]) == ("completed", "regrade", graded)
    assert state["grader"]["name"] == "exact"
    assert state["counts"]["tokens"] == 0
    assert {item["row"]: item["last_accuracy"] for item in page} == {row: 0.5 * (row % 3 == 2) for row in range(12)}
    assert [answer["verdict"] for answer in detail["checkpoints"][0]["answers"]] == ["wrong", "right"]
    assert detail["checkpoints"][0]["perplexity"] == 2.0
    assert report["checkpoints"][0]["memorized"] == pytest.approx(1 / 12)


def test_the_report_says_where_the_two_graders_disagree(client, graded):
    job = regrade(client, graded)
    work_off_stricter(client)
    ended(client, job)

    found = client.get(f"/v1/jobs/{job}/report").json()["regrade"]

    # 12 training and 5 test rows at 2 checkpoints; of rows 1 and 2 of every three the first answer was right.
    changed = 2 * (8 + 3)
    assert (found["of"], found["before"]["name"], found["after"]["name"]) == (graded, "gsm8k", "exact")
    assert (found["answers"], found["disagreements"]) == (2 * 17 * 2, changed)
    assert {(line["before"], line["after"]): line["answers"] for line in found["table"]} == {
        ("right", "wrong"): changed,
        ("right", "right"): 2 * (4 + 1),
        ("wrong", "wrong"): 2 * 17 * 2 - changed - 2 * (4 + 1),
    }
    assert len(found["examples"]) == 20
    first = found["examples"][0]
    assert (first["kind"], first["row"], first["sample"]) == ("test", 1, 0)
    assert (first["before"], first["after"], first["after_extracted"]) == ("right", "wrong", "0")
    assert first["text"] == "checkpoint-1 row 1 answer 0"


@on_sqlite
def test_a_regraded_job_keeps_the_threshold_and_can_be_regraded_itself(client, graded):
    again = regrade(client, graded, name="stricter")
    work_off_stricter(client)
    first = ended(client, again)
    third = regrade(client, again, grader={"name": "gsm8k"})
    work_off_stricter(client)

    assert first["name"] == "stricter"
    assert first["threshold"]["memorized_below"] == 1.2
    assert ended(client, third)["state"] == "completed"


@on_sqlite
def test_a_worker_without_an_engine_gets_nothing_else(client, post_job):
    post_job()

    assert lease(client, engine=None) is None
    assert must_lease(client)["regrade"] is False


@on_sqlite
def test_a_task_that_samples_has_no_source(client, post_job):
    post_job()

    assert client.get(SOURCE.format(must_lease(client)["id"])).status_code == 404
    assert client.get(SOURCE.format("nobody")).status_code == 404


@on_sqlite
def test_what_cannot_be_graded_anew_is_refused(client, graded, post_job):
    running = post_job()

    same = client.post(f"/v1/jobs/{graded}/regrade", json={"grader": {"name": "gsm8k"}})
    unknown = client.post(f"/v1/jobs/{graded}/regrade", json={"grader": {"name": "nobody"}})
    early = client.post(f"/v1/jobs/{running}/regrade", json={"grader": EXACT})
    nowhere = client.post("/v1/jobs/job_0/regrade", json={"grader": EXACT})

    assert (same.status_code, "graded job" in same.text) == (422, True)
    assert (unknown.status_code, "nobody" in unknown.text) == (422, True)
    assert (early.status_code, "is queued" in early.text) == (409, True)
    assert nowhere.status_code == 404


@on_sqlite
def test_other_verdicts_may_need_answers_that_nobody_drew(client, post_job):
    """By the first grader the second checkpoint's best answers sufficed; by the stricter one the first's may be better."""

    def by_heart(checkpoint: str, row: int) -> Observation:
        known = checkpoint == "checkpoint-3"
        return Observation(correct=2, sampled=2, perplexity=1.1 if known else 2.0)

    checkpoints = [{"path": f"/runs/checkpoint-{n}"} for n in (1, 2, 3)]
    parent = post_job(trajectory="final", checkpoints=checkpoints)
    work_off(client, by_heart)
    drawn = ended(client, parent)["counts"]["samples"]
    job = regrade(client, parent)

    without_engine = work_off_stricter(client)
    waiting = client.get(f"/v1/jobs/{job}").json()
    task = must_lease(client)

    assert without_engine == 6  # three shards, two checkpoints
    assert (waiting["state"], waiting["trajectory"]) == ("running", "final")
    assert waiting["counts"]["samples"] == drawn
    assert (task["kind"], task["checkpoint"]["name"], task["regrade"]) == ("draw", "checkpoint-1", False)
    assert put(client, task, result(task, by_heart)).status_code == 200
    work_off(client, by_heart)
    assert ended(client, job)["state"] == "completed"
