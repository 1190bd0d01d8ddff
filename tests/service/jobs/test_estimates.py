"""What a job will cost, before it is posted, and who is there to work."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, update

from premem.payloads.effort import Effort
from premem.payloads.results import decode, encode
from premem.records import Observation
from premem_service.storage.tables import jobs, tasks, workers
from tests.service.serving import on_sqlite, upload
from tests.service.working import PRODUCED_BY, lease, put, result, work_off


def told(client, dataset: str, *, measured_by: str | None = None, **changes):
    body = {
        "dataset": dataset,
        "checkpoints": [{"path": "/runs/1"}, {"path": "/runs/2"}],
        "sampling": {"samples": 4},
        "memorized_below": 1.2,
        **changes,
    }
    params = {"dry_run": "true", **({"measured_by": measured_by} if measured_by else {})}
    return client.post("/v1/jobs", params=params, json=body)


def measured(client, post_job, **changes) -> str:
    """A job whose scoring took a second per 100 tokens, 50 tokens of each row, and whose answers took half a second each."""
    job = post_job(trajectory="full", checkpoints=[{"path": "/runs/1"}], **changes)
    while (task := lease(client)) is not None:
        rows, _ = decode(result(task, lambda name, row: Observation(1, 2, 2.0)))
        if task["kind"] == "perplexity":
            effort = Effort(prompt_tokens=200, engine_seconds=2.0)
        else:
            seconds = 0.5 * sum(len(row.answers) for row in rows)
            effort = Effort(prompt_tokens=50, engine_seconds=seconds, cache_bytes=2**30)
        put(client, task, encode(rows, produced_by={**PRODUCED_BY, **effort.as_metadata()}))
    return job


def test_a_dry_run_says_what_a_job_will_take_and_starts_nothing(client, app, post_job, dataset):
    job = measured(client, post_job)

    answer = told(client, dataset, measured_by=job)

    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["examples"], found["checkpoints"], found["workers"]) == (12, 2, 1)
    assert found["scored_tokens"] == pytest.approx(2 * 3 * 200)
    assert found["answers"] == pytest.approx({"low": 0.31 * 96, "high": 96.0})
    assert found["answer_tokens"]["high"] == pytest.approx(3 * 96)
    assert found["engine_seconds"]["high"] == pytest.approx(2 * 3 * 200 / 100 + 96 / 2)
    assert found["seconds"] == found["engine_seconds"]
    assert (found["weight_bytes"], found["cache_bytes"]) == (1_000 * 4, 2**30)
    with app.state.database.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(jobs)) == 1


@on_sqlite
@pytest.mark.parametrize(
    ("changes", "low", "high"),
    [
        ({"trajectory": "everything"}, 96, 96),
        ({"trajectory": "full"}, 48, 96),
        ({"below": 0.5}, 0.21 * 96, 96),
        ({"trajectory": "everything", "perturbations": [{"name": "p", "answer_prefix": " So"}]}, 96 + 96, 96 + 96),
    ],
)
def test_answers_follow_from_what_is_asked_for(client, dataset, changes, low, high):
    found = told(client, dataset, **changes).json()

    assert found["answers"] == pytest.approx({"low": low, "high": high})


@on_sqlite
def test_a_test_set_is_drawn_at_every_checkpoint(client, dataset):
    test = upload(client, rows=5, offset=70)

    assert told(client, dataset, test_dataset=test).json()["answers"]["high"] == 96 + 5 * 4 * 2


@on_sqlite
def test_nothing_measured_gives_no_seconds_and_says_so(client, dataset):
    found = told(client, dataset).json()

    assert (found["engine_seconds"], found["seconds"], found["measured_by"]) == (None, None, None)
    assert found["scored_tokens"] > 0
    assert "nothing was measured" in " ".join(found["notes"])
    assert "no worker" in " ".join(found["notes"])


TEXTS = [f"What is {n} + 1?It is {n + 1}.\n#### {n + 1}" for n in range(12)]
BRIEF = {"chat": True, "system": "Be brief."}


@on_sqlite
def test_the_turns_of_a_chat_and_its_system_message_are_counted(client, dataset):
    characters = sum(map(len, TEXTS))

    plain, chat, system = (
        told(client, dataset, template=template).json()
        for template in ({"prompt": "{question}", "target": "{trace}"}, {"chat": True}, BRIEF)
    )

    assert plain["scored_tokens"] == pytest.approx(2 * 0.3 * characters)
    assert chat["scored_tokens"] == pytest.approx(2 * (0.3 * characters + 12 * 2 * 5))
    assert system["scored_tokens"] == pytest.approx(2 * (0.3 * (characters + 12 * 9) + 12 * 3 * 5))
    assert system["answer_tokens"] == pytest.approx(plain["answer_tokens"])
    assert "5 tokens to each message" in " ".join(chat["notes"])


@on_sqlite
def test_a_measured_chat_is_counted_as_it_was_measured_and_another_one_by_its_turns(client, post_job, dataset):
    job = measured(client, post_job, template=BRIEF)
    characters = sum(map(len, TEXTS))

    same, silent = (
        told(client, dataset, measured_by=job, template=template).json()["scored_tokens"]
        for template in (BRIEF, {"chat": True})
    )

    assert same == pytest.approx(2 * 12 * 50)
    each = 12 * (50 - 3 * 5) / (characters + 12 * 9)
    assert silent == pytest.approx(2 * (characters * each + 12 * 2 * 5))


@on_sqlite
def test_a_job_that_measured_nothing_is_refused(client, post_job, dataset):
    job = post_job()
    work_off(client)

    assert told(client, dataset, measured_by=job).status_code == 409
    assert told(client, dataset, measured_by="job_gone").status_code == 422
    assert told(client, "ds_gone").status_code == 422


def test_workers_that_asked_lately_are_listed_and_others_forgotten(client, app):
    for name in ("b", "a", "a"):
        lease(client, worker=name)
    lease(client, worker="grades", engine=None)
    with app.state.database.begin() as connection:
        connection.execute(update(workers).where(workers.c.name == "b").values(seen_at=workers.c.seen_at - 100))

    found = client.get("/v1/workers").json()["items"]

    assert [(one["name"], one["engine"]) for one in found] == [("a", "fake"), ("grades", None)]


def test_what_a_worker_runs_on_is_listed_as_soon_as_it_tells(client):
    lease(client, worker="a")
    before = client.get("/v1/workers").json()["items"]
    lease(client, worker="a", engine="vllm", device="NVIDIA H100 80GB HBM3")

    (found,) = client.get("/v1/workers").json()["items"]

    assert before[0]["device"] is None
    assert (found["engine"], found["device"]) == ("vllm", "NVIDIA H100 80GB HBM3")


@on_sqlite
def test_a_worker_with_a_task_in_hand_is_connected_however_long_it_takes(client, app, post_job):
    post_job()
    lease(client, worker="slow")
    with app.state.database.begin() as connection:
        connection.execute(update(workers).values(seen_at=0.0))
        assert connection.scalar(select(tasks.c.worker).where(tasks.c.state == "leased")) == "slow"

    assert [one["name"] for one in client.get("/v1/workers").json()["items"]] == ["slow"]
