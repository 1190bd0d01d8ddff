"""Checkpoints of a job, and the tasks that each one brings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import uuid4

from fastapi import APIRouter, Response
from sqlalchemy import Connection, RowMapping, func, insert, select

from premem.errors import Conflict
from premem.wire import Checkpoint, Job
from service import states
from service.dependencies import DatabaseGiven, SettingsGiven
from service.problems import FieldError, described
from service.progress import job_reply
from service.tables import checkpoints, datasets, tasks

MAX_CHECKPOINTS = 1000

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post("/{job}/checkpoints", status_code=202, responses=described(404, 409))
def append_checkpoint(
    job: str, checkpoint: Checkpoint, response: Response, database: DatabaseGiven, settings: SettingsGiven
) -> Job:
    """Append the next checkpoint of the run to a job that is open."""
    with database.begin() as connection:
        row = states.lock(connection, job)
        if not row["open"] or row["state"] not in states.ACTIVE:
            raise Conflict(f"job {job} is {row['state']} and takes no more checkpoints; post a new job")
        there = connection.execute(select(checkpoints.c.name).where(checkpoints.c.job == job)).scalars().all()
        if checkpoint.name in there:
            raise Conflict(f"job {job} has a checkpoint named {checkpoint.name!r} already: give this one another name")
        if len(there) >= MAX_CHECKPOINTS:
            raise Conflict(f"job {job} has {MAX_CHECKPOINTS} checkpoints, and no job takes more")
        add(connection, row, [checkpoint], first=len(there), max_tasks=settings.max_tasks)
        reply = job_reply(connection, job)
    response.headers["Retry-After"] = "1"
    return reply


def add(connection: Connection, job: RowMapping, added: Sequence[Checkpoint], *, first: int, max_tasks: int) -> None:
    """Checkpoints of a locked job from position `first` on, each with one task per kind and shard.

    Raises FieldError where the job would have more than `max_tasks`.
    """
    if not added:
        return
    sizes = dict(
        connection.execute(
            select(datasets.c.id, datasets.c.rows).where(datasets.c.id.in_([job["dataset"], job["test_dataset"]]))
        ).all()
    )
    shard = job["request"]["shard_rows"]
    kinds = [("train", job["dataset"]), ("test", job["test_dataset"])]
    per_checkpoint = sum(-(-sizes[dataset] // shard) for _, dataset in kinds if dataset is not None)
    there = connection.scalar(select(func.count()).select_from(tasks).where(tasks.c.job == job["id"])) or 0
    total = there + per_checkpoint * len(added)
    if total > max_tasks:
        raise FieldError(
            "shard_rows", f"{shard} rows per task make {total:,} tasks, more than {max_tasks:,}: take more rows"
        )
    connection.execute(
        insert(checkpoints),
        [
            {"job": job["id"], "position": position, "name": checkpoint.name, "path": checkpoint.path}
            for position, checkpoint in enumerate(added, first)
        ],
    )
    connection.execute(
        insert(tasks),
        [
            task
            for position, checkpoint in enumerate(added, first)
            for kind, dataset in kinds
            if dataset is not None
            for task in _tasks(job, position, checkpoint, kind=kind, dataset=dataset, rows=sizes[dataset])
        ],
    )


def _tasks(
    job: RowMapping, position: int, checkpoint: Checkpoint, *, kind: str, dataset: str, rows: int
) -> Iterator[dict[str, object]]:
    shard = job["request"]["shard_rows"]
    for start in range(0, rows, shard):
        yield {
            "id": f"task_{uuid4().hex}",
            "job": job["id"],
            "job_number": job["number"],
            "checkpoint": position,
            "checkpoint_path": checkpoint.path,
            "kind": kind,
            "dataset": dataset,
            "start": start,
            "stop": min(start + shard, rows),
            "state": "queued",
            "attempt": 0,
            "failures": 0,
            "losses": 0,
            "skipped": 0,
            "samples": 0,
            "tokens": 0,
        }
