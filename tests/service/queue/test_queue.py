"""The lease, on SQLite and on PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from premem.records import Observation
from premem_service.queue import leases
from premem_service.storage.db import now
from premem_service.storage.tables import tasks
from tests.service.serving import on_sqlite, upload
from tests.service.working import (
    always_right,
    ended,
    expire,
    fail,
    heartbeat,
    lease,
    must_lease,
    put,
    result,
    stored,
    work_off,
)

THREADS = 16


def test_sixteen_workers_never_get_the_same_task(client, app, post_job):
    post_job(shard_rows=1)
    database = app.state.database

    def claim_all(worker: int) -> list[str]:
        mine = []
        while True:
            with database.begin() as connection:
                at = now(connection)
                task = leases.claim(
                    connection, worker=f"w{worker}", loaded=None, has_engine=True, lease_seconds=60, at=at
                )
            if task is None:
                return mine
            mine.append(task.id)

    with ThreadPoolExecutor(THREADS) as threads:
        claimed = [task for mine in threads.map(claim_all, range(THREADS)) for task in mine]

    assert len(claimed) == len(set(claimed)) == 24


def test_sixteen_workers_finish_a_job_once(client, app, post_job):
    job = post_job(shard_rows=1)

    with ThreadPoolExecutor(THREADS) as threads:
        done = list(threads.map(lambda _: work_off(client), range(THREADS)))
    finished = ended(client, job)

    assert sum(done) == 24
    assert finished["state"] == "completed"
    assert finished["counts"]["samples"] == 48


def test_tasks_come_in_the_order_of_jobs_and_checkpoints(client, dataset, post_job):
    first, second = post_job(test_dataset=upload(client, rows=4, offset=100)), post_job()

    leased = [must_lease(client) for _ in range(14)]

    assert [task["job"] for task in leased] == [first] * 8 + [second] * 6
    assert [task["checkpoint"]["name"] for task in leased[:8]] == ["checkpoint-1"] * 4 + ["checkpoint-2"] * 4
    assert [(task["kind"], task["start"], task["stop"]) for task in leased[:4]] == [
        ("test", 0, 4),
        ("train", 0, 4),
        ("train", 4, 8),
        ("train", 8, 12),
    ]
    assert lease(client) is None


def test_the_loaded_checkpoint_comes_first_and_then_the_rest(client, post_job):
    post_job()

    names = [must_lease(client, loaded="/runs/checkpoint-2")["checkpoint"]["name"] for _ in range(6)]

    assert names == ["checkpoint-2"] * 3 + ["checkpoint-1"] * 3


@on_sqlite
def test_a_worker_is_told_that_a_job_asks_as_a_chat(client, post_job):
    job = post_job(template={"chat": True, "system": "Be brief."})

    template = must_lease(client)["template"]

    assert template == {"prompt": "{question}", "target": "{trace}", "chat": True, "system": "Be brief."}
    assert client.get(f"/v1/jobs/{job}").json()["template"] == template


@on_sqlite
def test_an_idle_worker_is_told_when_to_ask_again(client):
    answer = client.post("/v1/tasks/lease", json={"worker": "w", "engine": "fake"})

    assert answer.status_code == 204
    assert float(answer.headers["Retry-After"]) == 1


def test_a_leased_task_says_all_that_its_worker_needs(client, dataset, post_job):
    job = post_job(sampling={"samples": 2, "seed": 7}, template={"prompt": "Q: {question}"})

    task = must_lease(client)

    assert task["job"] == job
    assert task["dataset"] == dataset
    assert task["attempt"] == 1
    assert task["lease_seconds"] == 60
    assert task["checkpoint"] == {"path": "/runs/checkpoint-1", "name": "checkpoint-1"}
    assert task["sampling"]["seed"] == 7
    assert task["template"] == {
        "prompt": "Q: {question}",
        "target": " {trace}\nDone.",
        "chat": False,
        "system": "",
    }
    assert task["grader"]["name"] == "gsm8k"
    assert task["tokenizer"] is None
    assert task["dtype"] is None


def test_after_the_first_result_all_tasks_share_its_tokenizer_and_dtype(client, post_job):
    post_job()
    task = must_lease(client)
    put(client, task, result(task, always_right, dtype="bfloat16"))

    following = must_lease(client)

    assert following["tokenizer"] == "t1"
    assert following["dtype"] == "bfloat16"


def test_a_heartbeat_prolongs_the_lease(client, app, post_job):
    post_job()
    task = must_lease(client)
    before = stored(app, task)["expires_at"]

    answer = heartbeat(client, task)

    assert answer.json()["cancelled"] is False
    assert stored(app, task)["expires_at"] > before


def test_an_expired_lease_passes_on_and_its_late_result_is_refused(client, app, post_job):
    job = post_job()
    lost = must_lease(client, worker="frozen")
    expire(app, lost)

    again = must_lease(client, worker="other")
    late = put(client, lost, result(lost, always_right))
    kept = put(client, again, result(again, always_right))
    work_off(client)

    assert (again["id"], again["attempt"]) == (lost["id"], 2)
    assert late.status_code == 409
    assert late.json()["type"] == "/problems/stale-attempt"
    assert kept.status_code == 200
    assert ended(client, job)["counts"]["samples"] == 48
    assert stored(app, lost)["losses"] == 1
    assert stored(app, lost)["failures"] == 0
    assert {artifact.name for artifact in app.state.store.list("results/")} == _named(app)


def test_a_stale_attempt_has_no_say(client, app, post_job):
    post_job()
    stale = must_lease(client)
    expire(app, stale)
    must_lease(client)

    answers = [
        heartbeat(client, stale),
        put(client, stale, result(stale, always_right)),
        fail(client, stale),
        client.post(f"/v1/tasks/{stale['id']}/release", json={"attempt": 1}),
    ]

    assert [answer.status_code for answer in answers] == [409] * 4
    assert {answer.json()["type"] for answer in answers} == {"/problems/stale-attempt"}
    assert stored(app, stale)["state"] == "leased"
    assert stored(app, stale)["attempt"] == 2


def test_a_lease_that_ran_out_unnoticed_loses_no_result(client, app, post_job):
    post_job()
    task = must_lease(client)
    expire(app, task)

    answer = put(client, task, result(task, always_right))

    assert answer.status_code == 200
    assert stored(app, task)["state"] == "completed"
    assert stored(app, task)["losses"] == 0


def test_the_same_attempt_may_hand_in_twice(client, app, post_job):
    job = post_job()
    task = must_lease(client)
    content = result(task, always_right)

    first, second = put(client, task, content), put(client, task, content)
    work_off(client)

    assert first.status_code == second.status_code == 200
    assert first.json() == second.json() == {"task": task["id"], "attempt": 1, "rows": 4}
    assert ended(client, job)["counts"]["samples"] == 48
    assert {artifact.name for artifact in app.state.store.list("results/")} == _named(app)


def test_results_handed_in_at_once_by_one_attempt_count_once(client, app, post_job):
    post_job()
    task = must_lease(client)
    content = result(task, always_right)

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: put(client, task, content).status_code, range(4)))

    assert answers == [200] * 4
    assert len(list(app.state.store.list("results/"))) == 1


def test_a_released_task_counts_neither_as_failed_nor_as_lost(client, app, post_job):
    post_job()
    task = must_lease(client)

    answer = client.post(f"/v1/tasks/{task['id']}/release", json={"attempt": 1})
    again = must_lease(client)

    assert answer.status_code == 204
    assert again["id"] == task["id"]
    assert (stored(app, task)["failures"], stored(app, task)["losses"]) == (0, 0)


def test_a_task_is_tried_three_times_and_its_checkpoint_is_left_out(client, app, post_job):
    job = post_job()

    for _ in range(3):
        assert fail(client, must_lease(client)).status_code == 204
    work_off(client)
    finished = ended(client, job)

    assert finished["state"] == "completed"
    assert finished["checkpoints"][0]["state"] == "failed"
    assert finished["errors"] == ["checkpoint-1: rows 0 to 3: out of memory (tried 3 times)"]
    assert any("checkpoint-1 is left out of the history" in warning for warning in finished["warnings"])
    assert [line["checkpoint"] for line in client.get(f"/v1/jobs/{job}/report").json()["checkpoints"]] == [
        "checkpoint-2"
    ]


def test_a_permanent_failure_is_not_tried_again(client, app, post_job):
    post_job()
    task = must_lease(client)

    fail(client, task, permanent=True)

    assert stored(app, task)["state"] == "failed"
    assert stored(app, task)["failures"] == 1


def test_a_fault_in_the_checkpoint_ends_all_of_its_tasks(client, app, post_job):
    job = post_job()
    one, other = must_lease(client), must_lease(client)

    fail(client, one, "checkpoint-1 holds NaN weights", permanent=True, checkpoint=True)
    seen = client.get(f"/v1/jobs/{job}").json()["checkpoints"][0]

    assert seen["state"] == "failed"
    assert seen["error"] == "checkpoint-1 holds NaN weights"
    assert seen["tasks"]["failed"] == 3
    assert heartbeat(client, other).status_code == 409
    assert must_lease(client)["checkpoint"]["name"] == "checkpoint-2"


def test_a_job_whose_every_checkpoint_fails_says_which_and_why(client, post_job):
    job = post_job()
    for name in ("checkpoint-1", "checkpoint-2"):
        fail(client, must_lease(client), f"{name} has no weights", permanent=True, checkpoint=True)

    finished = ended(client, job)

    assert finished["state"] == "failed"
    assert finished["errors"] == [
        "no checkpoint was scored",
        "checkpoint-1: checkpoint-1 has no weights",
        "checkpoint-2: checkpoint-2 has no weights",
    ]


def test_a_task_that_loses_worker_after_worker_is_ended(client, app, post_job):
    job = post_job(checkpoints=[{"path": "/runs/only"}], shard_rows=12)

    for _ in range(5):
        expire(app, must_lease(client, worker="unlucky"))
    finished = ended(client, job)

    assert finished["state"] == "failed"
    assert "5 workers were lost while they had it, the last one unlucky" in finished["errors"][1]


def test_losses_and_failures_count_apart(client, app, post_job):
    post_job()
    for _ in range(4):
        expire(app, must_lease(client))
    for _ in range(2):
        fail(client, must_lease(client))

    task = must_lease(client)

    assert task["attempt"] == 7
    assert (stored(app, task)["losses"], stored(app, task)["failures"]) == (4, 2)


def test_a_checkpoint_with_another_tokenizer_is_refused(client, post_job):
    job = post_job(shard_rows=12)
    first = must_lease(client)
    put(client, first, result(first, always_right))
    second = must_lease(client)

    answer = put(client, second, result(second, always_right, tokenizer="t2"))
    finished = ended(client, job)

    assert answer.status_code == 409
    assert "another tokenizer" in finished["checkpoints"][1]["error"]
    assert finished["state"] == "completed"


@pytest.mark.parametrize("shard_rows", [12, 4])
def test_a_checkpoint_written_anew_between_two_tasks_is_refused(client, post_job, shard_rows):
    job = post_job(
        checkpoints=[{"path": "/runs/checkpoint-1"}], shard_rows=shard_rows, test_dataset=upload(client, rows=3)
    )
    first = must_lease(client)
    put(client, first, result(first, always_right, weights="w1"))
    second = must_lease(client)

    answer = put(client, second, result(second, always_right, weights="w2"))
    finished = ended(client, job)

    assert (first["weights"], second["weights"]) == (None, "w1")
    assert answer.status_code == 409
    assert "checkpoint 'checkpoint-1' was written anew between two tasks" in answer.json()["detail"]
    assert answer.json()["detail"] == finished["checkpoints"][0]["error"]
    assert finished["state"] == "failed"
    assert lease(client) is None


def test_one_checkpoint_written_anew_leaves_the_others(client, post_job):
    job = post_job()
    while (task := lease(client)) is not None:
        told = f"w{task['start']}" if task["checkpoint"]["name"] == "checkpoint-2" else "w"
        put(client, task, result(task, always_right, weights=told))

    finished = ended(client, job)

    assert finished["state"] == "completed"
    assert [one["error"] is None for one in finished["checkpoints"]] == [True, False]


def test_workers_that_tell_no_fingerprint_of_weights_work_beside_those_that_do(client, post_job):
    job = post_job(checkpoints=[{"path": "/runs/checkpoint-1"}])
    for told in ("", "w1", ""):
        task = must_lease(client)
        assert put(client, task, result(task, always_right, weights=told)).status_code == 200

    assert ended(client, job)["state"] == "completed"


@on_sqlite
def test_further_answers_are_those_of_the_same_weights(client, post_job):
    job = post_job(checkpoints=[{"path": "/runs/checkpoint-1"}], shard_rows=12)
    task = must_lease(client)
    put(client, task, result(task, always_right, weights="w1"))
    ended(client, job)
    more = client.post(f"/v1/jobs/{job}/samples", json={"samples": 3}).json()["id"]
    task = must_lease(client)

    answer = put(client, task, result(task, lambda *_: Observation(3, 3, 2.0), weights="w2"))

    assert task["weights"] == "w1"
    assert answer.status_code == 409
    assert ended(client, more)["state"] == "failed"


@on_sqlite
def test_a_fingerprint_that_is_none_is_refused(client, post_job):
    post_job()
    task = must_lease(client)

    answer = put(client, task, result(task, always_right, weights="w" * 65))

    assert answer.status_code == 422
    assert "'weights'" in answer.text


def test_a_result_with_a_row_missing_is_refused_whole(client, app, post_job):
    post_job()
    task = must_lease(client)
    short = result({**task, "stop": 3}, always_right)

    answer = put(client, task, short)

    assert answer.status_code == 422
    assert "each row from 0 to 3" in answer.json()["detail"]
    assert stored(app, task)["state"] == "leased"
    assert list(app.state.store.list("results/")) == []


@on_sqlite
def test_a_result_that_is_too_long_is_refused(client, app, post_job):
    post_job()
    task = must_lease(client)
    app.state.settings.max_result_bytes = 100

    answer = put(client, task, result(task, always_right))

    assert answer.status_code == 413


def test_cancelling_waits_for_the_workers_to_hear_of_it(client, post_job):
    job = post_job()
    task = must_lease(client)

    cancelled = client.post(f"/v1/jobs/{job}/cancel")
    beat = heartbeat(client, task)
    late = put(client, task, result(task, always_right))
    released = client.post(f"/v1/tasks/{task['id']}/release", json={"attempt": 1})
    finished = client.get(f"/v1/jobs/{job}").json()

    assert cancelled.status_code == 202
    assert cancelled.json()["state"] == "cancelling"
    assert cancelled.json()["counts"]["tasks"]["cancelled"] == 5
    assert beat.json()["cancelled"] is True
    assert late.status_code == 409
    assert "cancelled" in late.json()["detail"]
    assert released.status_code == 204
    assert finished["state"] == "cancelled"
    assert finished["checkpoints"][0]["state"] == "cancelled"
    assert lease(client) is None


def test_a_cancelled_job_ends_when_its_lost_workers_lease_does(client, app, post_job):
    job = post_job()
    task = must_lease(client)
    client.post(f"/v1/jobs/{job}/cancel")

    expire(app, task)

    assert ended(client, job)["state"] == "cancelled"


def test_an_unknown_task_is_not_found(client):
    gone = {"id": "task_gone", "attempt": 1}

    answers = [heartbeat(client, gone), fail(client, gone), put(client, gone, b"")]

    assert [answer.status_code for answer in answers] == [404] * 3


def _named(app) -> set[str]:
    with app.state.database.connect() as connection:
        return set(connection.scalars(select(tasks.c.artifact).where(tasks.c.artifact.is_not(None))))
