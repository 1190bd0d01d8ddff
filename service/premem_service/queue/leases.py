"""The lease: which worker has which task, and until when.

`attempt` counts the leases of a task. The one that is out is the fencing token: whoever comes with an older one is
refused, so a worker that was frozen or cut off cannot undo what another did since. All times are the database's.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, and_, exists, select, update

from premem.errors import NotFound, StaleAttempt
from premem_service.queue import states
from premem_service.storage.rows import AttemptRow, JobRow, TaskRow, first_of, one_of
from premem_service.storage.tables import PLAN, jobs, tasks


def requeue_expired(connection: Connection, *, max_losses: int, at: float) -> None:
    """Put tasks whose lease ran out back into the queue: nobody heard of their workers.

    Those that were lost too often stay for `end_exhausted`, those of cancelled jobs for `end_cancelled`.
    """
    expired = (
        select(tasks.c.id)
        .where(
            tasks.c.state == "leased",
            tasks.c.expires_at < at,
            tasks.c.losses + 1 < max_losses,
            exists().where(jobs.c.id == tasks.c.job, jobs.c.state == "running"),
        )
        .with_for_update(skip_locked=True, of=tasks)
    )
    connection.execute(
        update(tasks).where(tasks.c.id.in_(expired)).values(state="queued", losses=tasks.c.losses + 1, expires_at=None)
    )


def claim(
    connection: Connection, *, worker: str, loaded: str | None, has_engine: bool, lease_seconds: float, at: float
) -> TaskRow | None:
    """The next task, now leased to this worker; None where nothing waits.

    The checkpoint that the worker has loaded goes first, then the order of jobs and of the turns of their tasks. A worker
    without an engine gets what is graded again.
    """
    waiting = and_(tasks.c.state == "queued", tasks.c.kind != PLAN)
    if not has_engine:
        waiting = and_(waiting, tasks.c.source.is_not(None))
    if loaded is not None:
        here = and_(waiting, tasks.c.checkpoint_path == loaded)
        claimed = _claim(connection, here, worker=worker, lease_seconds=lease_seconds, at=at)
        if claimed is not None:
            return claimed
    return _claim(connection, waiting, worker=worker, lease_seconds=lease_seconds, at=at)


def _claim(
    connection: Connection, waiting: ColumnElement[bool], *, worker: str, lease_seconds: float, at: float
) -> TaskRow | None:
    next_one = (
        select(tasks.c.id)
        .where(waiting)
        .order_by(tasks.c.job_number, tasks.c.turn, tasks.c.kind, tasks.c.start)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    claimed = (
        update(tasks)
        .where(tasks.c.id == next_one)
        .values(
            state="leased",
            attempt=tasks.c.attempt + 1,
            worker=worker,
            leased_at=at,
            expires_at=at + lease_seconds,
            error=None,
        )
        .returning(tasks)
    )
    return first_of(TaskRow, connection, claimed)


def start_job(connection: Connection, job: str, *, at: float) -> JobRow:
    """A job of which a task was just claimed: it runs from the first one on."""
    connection.execute(
        update(jobs).where(jobs.c.id == job, jobs.c.state == "queued").values(state="running", started_at=at)
    )
    return one_of(JobRow, connection, select(jobs).where(jobs.c.id == job))


def extend(connection: Connection, task: str, attempt: int, *, lease_seconds: float, at: float) -> bool:
    """Prolong a lease to `at + lease_seconds`. Returns whether the job was cancelled. Raises StaleAttempt, NotFound."""
    extended = (
        update(tasks)
        .where(tasks.c.id == task, tasks.c.attempt == attempt, tasks.c.state == "leased")
        .values(expires_at=at + lease_seconds)
        .returning(tasks.c.job)
    )
    job = connection.execute(extended).scalar_one_or_none()
    if job is None:
        raise stale(connection, task, attempt)
    return connection.scalar(select(jobs.c.state).where(jobs.c.id == job)) in states.CANCELLED


def release(connection: Connection, task: str, attempt: int, *, at: float) -> None:
    """Give a task back, unharmed. Raises StaleAttempt, NotFound."""
    job = job_of(connection, task)
    cancelled = states.lock(connection, job).state in states.CANCELLED
    released = (
        update(tasks)
        .where(tasks.c.id == task, tasks.c.attempt == attempt, tasks.c.state == "leased")
        .values(state="cancelled" if cancelled else "queued", expires_at=None, finished_at=at if cancelled else None)
    )
    if connection.execute(released).rowcount == 0:
        raise stale(connection, task, attempt)
    states.settle(connection, job, at=at)


def report_failure(
    connection: Connection,
    task: str,
    attempt: int,
    *,
    error: str,
    permanent: bool,
    whole_checkpoint: bool,
    max_failures: int,
    at: float,
) -> str:
    """End an attempt that failed, and with it the task where trying again cannot help or did not.

    Returns the task's new state. Raises StaleAttempt, NotFound.
    """
    job = job_of(connection, task)
    cancelled = states.lock(connection, job).state in states.CANCELLED
    held = select(tasks).where(tasks.c.id == task, tasks.c.attempt == attempt, tasks.c.state == "leased")
    row = first_of(TaskRow, connection, held.with_for_update())
    if row is None:
        raise stale(connection, task, attempt)
    failures = row.failures + 1
    for_good = permanent or failures >= max_failures
    state = "cancelled" if cancelled else "failed" if for_good else "queued"
    connection.execute(
        update(tasks)
        .where(tasks.c.id == task)
        .values(
            state=state,
            failures=failures,
            error=error,
            expires_at=None,
            finished_at=None if state == "queued" else at,
        )
    )
    if state == "failed":
        reason = error if permanent else f"{error} (tried {failures} times)"
        _give_up(connection, row, reason=reason, whole_checkpoint=whole_checkpoint, at=at)
    states.settle(connection, job, at=at)
    return state


def end_exhausted(connection: Connection, *, max_losses: int, at: float) -> int:
    """End tasks that were lost once too often: they may be what kills the workers. Returns how many."""
    exhausted = select(tasks.c.id, tasks.c.job).where(
        tasks.c.state == "leased", tasks.c.expires_at < at, tasks.c.losses + 1 >= max_losses
    )
    exhausted = exhausted.order_by(tasks.c.job_number)  # services lock jobs in one order
    ended = 0
    for task, job in connection.execute(exhausted).all():
        if states.lock(connection, job).state in states.CANCELLED:
            continue
        lost = (
            update(tasks)
            .where(tasks.c.id == task, tasks.c.state == "leased", tasks.c.expires_at < at)
            .values(state="failed", losses=tasks.c.losses + 1, expires_at=None, finished_at=at)
            .returning(tasks)
        )
        row = first_of(TaskRow, connection, lost)
        if row is None:  # its worker was heard of after all
            continue
        reason = f"{row.losses} workers were lost while they had it, the last one {row.worker}"
        connection.execute(update(tasks).where(tasks.c.id == task).values(error=reason))
        _give_up(connection, row, reason=reason, whole_checkpoint=False, at=at)
        states.settle(connection, job, at=at)
        ended += 1
    return ended


def end_cancelled(connection: Connection, *, at: float) -> None:
    """Cancelled jobs whose workers were never heard of again end with the last lease."""
    cancelling = select(jobs.c.id).where(jobs.c.state == "cancelling").order_by(jobs.c.number)
    for job in connection.execute(cancelling).scalars().all():
        states.lock(connection, job)
        expired = and_(tasks.c.state == "leased", tasks.c.expires_at < at)
        states.end_tasks(connection, job, state="cancelled", error=None, at=at, where=expired)
        states.settle(connection, job, at=at)


def _give_up(connection: Connection, task: TaskRow, *, reason: str, whole_checkpoint: bool, at: float) -> None:
    """A checkpoint of which training examples are missing cannot count, so nobody need work on it any more."""
    if whole_checkpoint:
        states.fail_checkpoint(connection, task.job, task.checkpoint, error=reason, at=at)
    elif task.kind in states.NEEDED:
        rows = f"rows {task.start} to {task.stop - 1}: {reason}"
        states.fail_checkpoint(connection, task.job, task.checkpoint, error=rows, at=at)


def job_of(connection: Connection, task: str) -> str:
    """Raises NotFound."""
    job: str | None = connection.scalar(select(tasks.c.job).where(tasks.c.id == task))
    if job is None:
        raise NotFound(f"there is no task {task}")
    return job


def stale(connection: Connection, task: str, attempt: int) -> StaleAttempt:
    """Why this attempt has no say any more. Raises NotFound."""
    query = select(tasks.c.attempt, tasks.c.state).where(tasks.c.id == task)
    row = first_of(AttemptRow, connection, query)
    if row is None:
        raise NotFound(f"there is no task {task}")
    if row.attempt != attempt:
        return StaleAttempt(f"attempt {attempt} of task {task} is over: attempt {row.attempt} is the latest")
    return StaleAttempt(f"attempt {attempt} of task {task} is over: the task is {row.state}")
