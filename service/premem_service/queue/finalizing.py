"""Finishing a job once: claimed with a lease, retried, or given up with its reason."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection, or_, select, update

from premem.errors import Interrupted, PrememError
from premem_service.storage.db import Database, now
from premem_service.storage.rows import JobRow, first_of
from premem_service.storage.store import Store
from premem_service.storage.tables import jobs, tasks

FINALIZING_SECONDS = 120.0
"""A service that finalizes says so at least this often, or another one takes over."""
RENEW_SECONDS = 10.0
RETRY_SECONDS = 2.0


class Unscorable(PrememError):
    """There is nothing to rank, and trying again cannot help."""


def claim_job(connection: Connection, *, at: float) -> JobRow | None:
    free = or_(jobs.c.finalizing_until.is_(None), jobs.c.finalizing_until < at)
    next_one = (
        select(jobs.c.id)
        .where(jobs.c.state == "finalizing", free)
        .order_by(jobs.c.number)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    claimed = (
        update(jobs)
        .where(jobs.c.id == next_one)
        .values(finalizing_until=at + FINALIZING_SECONDS, finalizing_attempts=jobs.c.finalizing_attempts + 1)
        .returning(jobs)
    )
    return first_of(JobRow, connection, claimed)


def _change(connection: Connection, job: JobRow, **values: object) -> bool:
    """Change a job that is still ours to finalize: neither cancelled nor taken over."""
    ours = (
        jobs.c.id == job.id,
        jobs.c.state == "finalizing",
        jobs.c.finalizing_attempts == job.finalizing_attempts,
    )
    return connection.execute(update(jobs).where(*ours).values(**values)).rowcount == 1


def fail_job(database: Database, job: JobRow, error: str) -> None:
    with database.begin() as connection:
        _change(connection, job, state="failed", error=error, finished_at=now(connection))


def retry_job(database: Database, job: JobRow) -> None:
    with database.begin() as connection:
        until = now(connection) + RETRY_SECONDS * job.finalizing_attempts
        _change(connection, job, finalizing_until=until)


def give_back_job(database: Database, job: JobRow) -> None:
    with database.begin() as connection:
        _change(connection, job, finalizing_until=None, finalizing_attempts=job.finalizing_attempts - 1)


class Lease:
    """Renews the claim on the way, and raises Interrupted where it is lost or the service ends."""

    def __init__(self, database: Database, job: JobRow, stopped: Callable[[], bool]) -> None:
        self._database = database
        self._job = job
        self._stopped = stopped
        self._renewed = time.monotonic()

    def check(self) -> None:
        if self._stopped():
            raise Interrupted("the service ends")
        if time.monotonic() - self._renewed < RENEW_SECONDS:
            return
        with self._database.begin() as connection:
            if not _change(connection, self._job, finalizing_until=now(connection) + FINALIZING_SECONDS):
                raise Interrupted("the job was cancelled, or another service took over")
        self._renewed = time.monotonic()


def complete_job(database: Database, store: Store, job: JobRow, artifact: str, **values: object) -> None:
    """One transaction: the job is still ours, and its artifact counts from now on."""
    with database.begin() as connection:
        kept = _change(
            connection,
            job,
            state="completed",
            scores_artifact=artifact,
            finished_at=now(connection),
            finalizing_until=None,
            error=None,
            **values,
        )
        if kept and job.kind == "acquire":
            forget_embeddings(connection, job.id)
    # After an error nobody knows whether the commit took place: then what no row names is collected as garbage.
    if not kept:
        store.delete([artifact])
        raise Interrupted("the job was cancelled, or another service took over")


def forget_embeddings(connection: Connection, job: str) -> None:
    """Of a completed job: nobody asks for them again, and what no task names is garbage."""
    connection.execute(update(tasks).where(tasks.c.job == job).values(artifact=None))
