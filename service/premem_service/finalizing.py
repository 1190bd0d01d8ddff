"""What finishes a job when its last task has come in: one function for each kind of job."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from premem.errors import InputError, Interrupted, PrememError
from premem_service.curation.candidates import by_embedding
from premem_service.queue.finalizing import (
    Lease,
    Unscorable,
    claim_job,
    complete_job,
    fail_job,
    give_back_job,
    retry_job,
)
from premem_service.reports.writing import finalize, log
from premem_service.scores.ranking import PREFIX
from premem_service.storage.db import Database, now
from premem_service.storage.rows import JobRow
from premem_service.storage.store import Store

ATTEMPTS = 3


def finalize_next(database: Database, store: Store, *, stopped: Callable[[], bool]) -> bool:
    """Finalize the job that waits longest. Returns whether there was one."""
    with database.begin() as connection:
        job = claim_job(connection, at=now(connection))
    if job is None:
        return False
    job_log = log.bind(job=job.id, attempt=job.finalizing_attempts)
    if job.finalizing_attempts > ATTEMPTS:  # the service itself died of it
        fail_job(database, job, f"finalizing was given up after {ATTEMPTS} attempts: the service ended each time")
        return True
    lease = Lease(database, job, stopped)
    try:
        if job.kind == "acquire":
            _finalize_acquisition(database, store, job, lease)
        else:
            finalize(database, store, job, lease)
    except Interrupted as error:
        job_log.info("finalizing stopped", reason=str(error))
        give_back_job(database, job)
    except Unscorable as error:
        fail_job(database, job, str(error))
    except Exception as error:  # whatever it is, it is told to whoever waits for the job
        job_log.exception("finalizing failed")
        if job.finalizing_attempts >= ATTEMPTS:
            reason = str(error) if isinstance(error, PrememError) else f"{type(error).__name__}: {error}"
            fail_job(database, job, f"finalizing failed {ATTEMPTS} times: {reason}")
        else:
            retry_job(database, job)
    else:
        job_log.info("job finalized")
    return True


def _finalize_acquisition(database: Database, store: Store, job: JobRow, lease: Lease) -> None:
    try:
        found = by_embedding(database, store, job, check=lease.check)
    except InputError as error:
        raise Unscorable(str(error)) from error
    artifact = f"{PREFIX}{job.id}/{uuid4().hex}.json"
    store.put(artifact, found.model_dump_json().encode())
    complete_job(database, store, job, artifact)
