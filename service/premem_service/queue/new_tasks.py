"""The tasks of a job: one for each kind, checkpoint and shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, func, insert, select

from premem.wire.jobs import Checkpoint
from premem_service.http.problems import FieldError
from premem_service.queue import states
from premem_service.storage.rows import CheckpointRow, JobRow, first_of
from premem_service.storage.tables import checkpoints, datasets, tasks


def add(connection: Connection, job: JobRow, added: Sequence[Checkpoint], *, first: int, max_tasks: int) -> None:
    """Checkpoints of a locked job from position `first` on, each with one task per kind and shard.

    Raises FieldError where the job would have more than `max_tasks`.
    """
    if not added:
        return
    named = [
        CheckpointRow(job.id, position, checkpoint.name, checkpoint.path, weights=None, error=None)
        for position, checkpoint in enumerate(added, first)
    ]
    kinds = [("perplexity" if states.is_planned(job) else "train", job.dataset)]
    if job.test_dataset is not None:
        kinds.append(("test", job.test_dataset))
    sizes = _sizes(connection, job)
    rows = [sizes[dataset] for _, dataset in kinds] * len(named)
    check_room(connection, job, rows, max_tasks=max_tasks)
    connection.execute(insert(checkpoints), [asdict(checkpoint) for checkpoint in named])
    connection.execute(
        insert(tasks),
        [
            task
            for checkpoint in named
            for kind, dataset in kinds
            for task in shard_tasks(job, checkpoint, kind=kind, dataset=dataset, rows=sizes[dataset])
        ],
    )


def add_perturbed(connection: Connection, job: JobRow, *, max_tasks: int) -> None:
    """What the perturbations of a locked job ask for at its last checkpoint, once that is known to be the last.

    Raises FieldError where the job would have more than `max_tasks`.
    """
    perturbations = job.request.perturbations
    every = select(checkpoints).where(checkpoints.c.job == job.id, checkpoints.c.error.is_(None))
    last = first_of(CheckpointRow, connection, every.order_by(checkpoints.c.position.desc()).limit(1))
    if not perturbations or last is None:
        return
    rows = _sizes(connection, job)[job.dataset]
    variants = range(len(perturbations) + 1)
    check_room(connection, job, [rows for _ in variants], max_tasks=max_tasks)
    connection.execute(
        insert(tasks),
        [
            task
            for variant in variants
            for task in shard_tasks(job, last, kind="perturbed", dataset=job.dataset, rows=rows, variant=variant)
        ],
    )


def shard_tasks(
    job: JobRow, checkpoint: CheckpointRow, *, kind: str, dataset: str, rows: int, variant: int = 0
) -> Iterator[dict[str, Any]]:
    """One new task per shard of a data set."""
    shard = job.request.shard_rows
    for start in range(0, rows, shard):
        stop = min(start + shard, rows)
        yield new_task(
            job,
            checkpoint.position,
            checkpoint.path,
            kind=kind,
            dataset=dataset,
            start=start,
            stop=stop,
            variant=variant,
        )


def new_task(job: JobRow, checkpoint: int, path: str, **values: object) -> dict[str, Any]:
    """Columns of a task of the checkpoint at a position; what `values` do not say is as of a task that is to be done."""
    return {
        "id": f"task_{uuid4().hex}",
        "job": job.id,
        "job_number": job.number,
        "checkpoint": checkpoint,
        "checkpoint_path": path,
        "turn": checkpoint,
        "variant": 0,
        "plan": None,
        "partial": None,
        "source": None,
        "artifact": None,
        "finished_at": None,
        "state": "queued",
        "attempt": 0,
        "failures": 0,
        "losses": 0,
        "skipped": 0,
        "samples": 0,
        "tokens": 0,
        **values,
    }


def check_room(connection: Connection, job: JobRow, rows: Sequence[int], *, max_tasks: int) -> None:
    """`rows`: of each data set that is to be worked through, once more for each time.

    Raises FieldError where the job would have more than `max_tasks`.
    """
    shard = job.request.shard_rows
    there = connection.scalar(select(func.count()).select_from(tasks).where(tasks.c.job == job.id)) or 0
    total = there + sum(-(-count // shard) for count in rows)
    if total > max_tasks:
        raise FieldError(
            "shard_rows", f"{shard} rows per task make {total:,} tasks, more than {max_tasks:,}: take more rows"
        )


def _sizes(connection: Connection, job: JobRow) -> dict[str, int]:
    """Rows of the job's data sets."""
    both = datasets.c.id.in_([job.dataset, job.test_dataset])
    return dict(connection.execute(select(datasets.c.id, datasets.c.rows).where(both)).all())
