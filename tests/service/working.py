"""A worker's hands: leases, and results whose every number is chosen by the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from sqlalchemy import RowMapping, select, update
from starlette.testclient import TestClient

from premem.method.planning import Goal
from premem.payloads.results import RowResult, encode
from premem.records import Answer, Grade, Observation
from premem_service.storage.db import Database, now
from premem_service.storage.tables import tasks
from tests.end_to_end.processes import await_that

PRODUCED_BY = {
    "engine": "fake",
    "versions": "fake 1",
    "dtype": "float32",
    "tokenizer": "t1",
    "device": "cpu",
    "model": "FakeForCausalLM 1k",
}
Observe = Callable[[str, int], Observation]
"""What a checkpoint (by its name; name/variant under a perturbation) does with a row; its perplexity counts for
training rows only."""
Similar = Callable[[str, int], list[float]]
"""How like the reference its answers are; absent: not at all."""


def lease(
    client: TestClient,
    *,
    worker: str = "worker",
    loaded: str | None = None,
    engine: str | None = "fake",
    device: str | None = None,
) -> dict[str, Any] | None:
    body = {"worker": worker, "engine": engine, "device": device, "loaded_checkpoint": loaded}
    answer = client.post("/v1/tasks/lease", json=body)
    assert answer.status_code in (200, 204), answer.text
    return answer.json() if answer.status_code == 200 else None


def must_lease(client: TestClient, **asked: Any) -> dict[str, Any]:
    task = lease(client, **asked)
    assert task is not None
    return task


def result(task: dict[str, Any], observe: Observe, similar: Similar | None = None, **produced_by: str) -> bytes:
    name = task["checkpoint"]["name"]
    if task["kind"] == "perturbed":
        name += f"/{task['variant']}"
    if task["kind"] == "draw":
        rows = [_drawn(task, row, observe(name, row)) for row in task["plan"]["rows"]]
    else:
        rows = [_row(task, row, observe(name, row)) for row in range(task["start"], task["stop"])]
    if similar is not None and task["kind"] in ("train", "draw"):
        for row in rows:
            row.similarities = similar(name, row.row)[: len(row.answers)]
    return encode(rows, produced_by={**PRODUCED_BY, **produced_by})


def _row(task: dict[str, Any], row: int, seen: Observation) -> RowResult:
    answers = [
        Answer(
            text=f"{task['checkpoint']['name']} row {row} answer {place}",
            grade=Grade("right" if place < seen.correct else "wrong", str(place)),
            tokens=3,
            finished=True,
        )
        for place in range(seen.sampled)
    ]
    if task["kind"] == "perplexity":
        answers = []
    elif task["kind"] != "train":
        return RowResult(row=row, answers=answers)
    return RowResult(
        row=row,
        perplexity=seen.perplexity,
        target_tokens=5,
        span_shifted=False,
        answers=answers,
        similarities=[0.0] * len(answers),
    )


def _drawn(task: dict[str, Any], row: int, seen: Observation) -> RowResult:
    """As many answers, in their order, as the plan needs."""
    plan = task["plan"]
    place = plan["rows"].index(row)
    goal = Goal(0, plan["floor"][place], plan["ceiling"][place])
    whole = _row(task, row, seen).answers
    correct = drawn = 0
    while more := goal.more(correct, drawn, samples=len(whole)):
        correct += sum(answer.grade.verdict == "right" for answer in whole[drawn : drawn + more])
        drawn += more
    return RowResult(row=row, answers=whole[:drawn], similarities=[0.0] * drawn)


def put(client: TestClient, task: dict[str, Any], content: bytes, *, attempt: int | None = None) -> Any:
    attempt = task["attempt"] if attempt is None else attempt
    return client.put(f"/v1/tasks/{task['id']}/result", params={"attempt": attempt}, content=content)


def heartbeat(client: TestClient, task: dict[str, Any]) -> Any:
    return client.post(f"/v1/tasks/{task['id']}/heartbeat", json={"attempt": task["attempt"]})


def fail(client: TestClient, task: dict[str, Any], error: str = "out of memory", **how: bool) -> Any:
    body = {"attempt": task["attempt"], "error": error, **how}
    return client.post(f"/v1/tasks/{task['id']}/failure", json=body)


def always_right(checkpoint: str, row: int) -> Observation:
    return Observation(correct=2, sampled=2, perplexity=2.0)


def work_off(client: TestClient, observe: Observe = always_right, similar: Similar | None = None) -> int:
    """Do every task that there is. Returns how many."""
    done = 0
    while (task := lease(client)) is not None:
        answer = put(client, task, result(task, observe, similar))
        assert answer.status_code == 200, answer.text
        done += 1
    return done


def ended(client: TestClient, job: str) -> dict[str, Any]:
    """The job, once it has ended."""

    def found() -> dict[str, Any] | None:
        state: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
        return state if state["state"] in ("completed", "failed", "cancelled") else None

    return await_that(found, seconds=20, what=f"job {job} to end")


def expire(app: FastAPI, task: dict[str, Any]) -> None:
    """As if the lease had run out without a heartbeat."""
    database: Database = app.state.database
    with database.begin() as connection:
        past = now(connection) - 1
        connection.execute(update(tasks).where(tasks.c.id == task["id"]).values(expires_at=past))


def stored(app: FastAPI, task: dict[str, Any]) -> RowMapping:
    """The task's row."""
    with app.state.database.connect() as connection:
        row: RowMapping = connection.execute(select(tasks).where(tasks.c.id == task["id"])).mappings().one()
        return row
