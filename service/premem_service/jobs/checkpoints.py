"""Checkpoints of a job, and the tasks that each one brings."""

from __future__ import annotations

from fastapi import APIRouter, Response
from sqlalchemy import select

from premem.errors import Conflict
from premem.wire.jobs import Checkpoint, Job
from premem_service.http.dependencies import DatabaseGiven, SettingsGiven
from premem_service.http.problems import described
from premem_service.queue import states
from premem_service.queue.new_tasks import add
from premem_service.queue.progress import job_reply
from premem_service.storage.tables import checkpoints

MAX_CHECKPOINTS = 1000

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post("/{job}/checkpoints", status_code=202, responses=described(404, 409))
def append_checkpoint(
    job: str, checkpoint: Checkpoint, response: Response, database: DatabaseGiven, settings: SettingsGiven
) -> Job:
    """Append the next checkpoint of the run to a job that is open."""
    with database.begin() as connection:
        row = states.lock(connection, job)
        if not row.open or row.state not in states.ACTIVE:
            raise Conflict(f"job {job} is {row.state} and takes no more checkpoints; post a new job")
        there = connection.execute(select(checkpoints.c.name).where(checkpoints.c.job == job)).scalars().all()
        if checkpoint.name in there:
            raise Conflict(f"job {job} has a checkpoint named {checkpoint.name!r} already: give this one another name")
        if len(there) >= MAX_CHECKPOINTS:
            raise Conflict(f"job {job} has {MAX_CHECKPOINTS} checkpoints, and no job takes more")
        add(connection, row, [checkpoint], first=len(there), max_tasks=settings.max_tasks)
        reply = job_reply(connection, job)
    response.headers["Retry-After"] = "1"
    return reply
