"""How a job moves from state to state.

queued → running → finalizing → completed | failed
queued | running | finalizing → cancelling → cancelled

Whoever changes the tasks of a job holds the job's row first. Only a claim goes the other way, task before job, so
nobody who holds a job waits for a task: what a claim has in hand is skipped, and settled when it comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, select, update

from premem.errors import Conflict, NotFound
from premem.wire.jobs import ENDED
from premem_service.storage.rows import JobRow, TaskRow, first_of
from premem_service.storage.tables import PLAN, checkpoints, jobs, tasks

ACTIVE = ("queued", "running")
CANCELLED = ("cancelling", "cancelled")
OUTSTANDING = ("queued", "leased")
MEASURED = ("train", "perplexity", "embed")
"""Kinds of tasks without all of which a checkpoint does not count."""
NEEDED = (*MEASURED, "draw")
"""Kinds of tasks whose failure ends their checkpoint."""
PLANNED = ("final", "full")
"""Trajectories of which not everything is drawn."""


def is_planned(job: JobRow) -> bool:
    return job.request.trajectory in PLANNED


def lock(connection: Connection, job: str) -> JobRow:
    """The job, until the transaction ends. Raises NotFound."""
    found = first_of(JobRow, connection, select(jobs).where(jobs.c.id == job).with_for_update())
    if found is None:
        raise NotFound(f"there is no job {job}")
    return found


def settle(connection: Connection, job: str, *, at: float) -> str:
    """Move a locked job on if its tasks allow it, and return its state. `at` is the database's time."""
    row = lock(connection, job)
    state: str = row.state
    if state == "cancelling":
        end_tasks(connection, job, state="cancelled", error=None, at=at, where=tasks.c.state == "queued")
        if not _any_task(connection, row.number, OUTSTANDING):
            state = _move(connection, job, state="cancelled", finished_at=at)
    elif state in ACTIVE and not row.open and not _any_task(connection, row.number, OUTSTANDING):
        if _any_checkpoint_scored(connection, job):
            state = _move(connection, job, state="finalizing")
        else:
            error = (
                ("the prompts could not be embedded" if row.kind == "acquire" else "no checkpoint was scored")
                if _any_task(connection, row.number, ("failed",))
                else "no checkpoint was given"
            )
            state = _move(connection, job, state="failed", finished_at=at, error=error)
    return state


def cancel(connection: Connection, job: str, *, at: float) -> str:
    """Stop a job: waiting tasks end now, leased ones when their worker hears of it or its lease runs out."""
    row = lock(connection, job)
    if row.state in ENDED or row.state == "cancelling":
        state: str = row.state
        return state
    _move(connection, job, state="cancelling", open=False)
    return settle(connection, job, at=at)


def fail_checkpoint(connection: Connection, job: str, position: int, *, error: str, at: float) -> None:
    """End a checkpoint of a locked job: it will be left out of the history. The first error is kept."""
    connection.execute(
        update(checkpoints)
        .where(checkpoints.c.job == job, checkpoints.c.position == position)
        .values(error=func.coalesce(checkpoints.c.error, error))
    )
    outstanding = and_(tasks.c.checkpoint == position, tasks.c.state.in_(OUTSTANDING))
    end_tasks(connection, job, state="failed", error=error, at=at, where=outstanding)
    # Without this checkpoint other answers matter.
    settled = (tasks.c.job == job, tasks.c.kind == PLAN, tasks.c.state == "completed")
    connection.execute(update(tasks).where(*settled).values(state="queued", finished_at=None))


def kept(task: TaskRow) -> dict[str, Any]:
    """Of a completed task whose result another job takes over: it cost that job nothing."""
    return {name: getattr(task, name) for name in ("state", "artifact", "finished_at", "skipped")}


def end_tasks(
    connection: Connection, job: str, *, state: str, error: str | None, at: float, where: ColumnElement[bool]
) -> None:
    """End tasks of a locked job, but for those that a claim has in hand this moment."""
    ending = select(tasks.c.id).where(tasks.c.job == job, where).with_for_update(skip_locked=True)
    connection.execute(
        update(tasks)
        .where(tasks.c.id.in_(ending))
        .values(state=state, error=func.coalesce(error, tasks.c.error), finished_at=at, expires_at=None)
    )


def _move(connection: Connection, job: str, **values: object) -> str:
    connection.execute(update(jobs).where(jobs.c.id == job).values(**values))
    return str(values["state"])


def _any_task(connection: Connection, number: int, states: Sequence[str]) -> bool:
    found = exists().where(tasks.c.job_number == number, tasks.c.state.in_(states))
    return bool(connection.scalar(select(found)))


def _any_checkpoint_scored(connection: Connection, job: str) -> bool:
    return bool(connection.scalar(select(func.count()).select_from(scored_checkpoints(job).subquery())))


def scored_checkpoints(job: str) -> Select[int, str]:
    """Checkpoints without an error whose needed tasks are all completed: those that count."""
    needed = and_(tasks.c.job == job, tasks.c.checkpoint == checkpoints.c.position, tasks.c.kind.in_(MEASURED))
    return (
        select(checkpoints.c.position, checkpoints.c.name)
        .where(
            checkpoints.c.job == job,
            checkpoints.c.error.is_(None),
            exists().where(needed),
            ~exists().where(needed, tasks.c.state != "completed"),
        )
        .order_by(checkpoints.c.position)
    )


def completed(connection: Connection, job: str) -> JobRow:
    """The job. Raises NotFound, and Conflict where it has no scores."""
    row = first_of(JobRow, connection, select(jobs).where(jobs.c.id == job))
    if row is None:
        raise NotFound(f"there is no job {job}")
    if row.kind == "acquire":
        raise Conflict(f"job {job} acquires examples and scores none; it has `…/candidates`")
    if row.state != "completed":
        raise Conflict(f"job {job} is {row.state}; it has scores once it is completed")
    return row
