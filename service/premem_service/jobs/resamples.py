"""More answers for a completed job: a job of its own that goes on from the answers that are there."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import Connection, insert

from premem.wire.jobs import Job
from premem.wire.reports import ResampleRequest
from premem_service.http.dependencies import DatabaseGiven, SettingsGiven
from premem_service.http.problems import FieldError, described
from premem_service.jobs.inserting import check_answers_are_here, insert_going_on
from premem_service.queue import draws, states
from premem_service.queue.new_tasks import new_task
from premem_service.queue.progress import job_reply
from premem_service.queue.states import completed
from premem_service.storage.rows import JobRow, TaskRow
from premem_service.storage.tables import tasks

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post("/{job}/samples", status_code=202, responses=described(404, 409))
def post_samples(
    job: str, request: ResampleRequest, response: Response, database: DatabaseGiven, settings: SettingsGiven
) -> Job:
    """Draw more answers per example and checkpoint: a new job, which keeps those that there are and draws the rest.

    Every sample has its own seed, so the scores are those that as many samples would have given at once.
    """
    with database.begin() as connection:
        parent = completed(connection, job)
        made = _insert(connection, parent, request, max_tasks=settings.max_tasks)
        reply = job_reply(connection, made.id)
    response.headers["Location"] = f"/v1/jobs/{reply.id}"
    response.headers["Retry-After"] = "1"
    return reply


def _insert(connection: Connection, parent: JobRow, request: ResampleRequest, *, max_tasks: int) -> JobRow:
    check_answers_are_here(parent)
    sampling = parent.request.sampling
    if request.samples <= sampling.samples:
        raise FieldError(
            "samples", f"job {parent.id} has {sampling.samples} answers per example and checkpoint: ask for more"
        )
    more = sampling.model_copy(update={"samples": request.samples})
    job, done = insert_going_on(connection, parent, kind="resample", name=request.name, sampling=more)
    connection.execute(insert(tasks), [_going_on(job, task) for task in done])
    if states.is_planned(job):
        draws.add_plans(connection, job, max_tasks=max_tasks)
    return job


def _going_on(job: JobRow, task: TaskRow) -> dict[str, Any]:
    """A task as it is, where the new plans go on from it; one that begins with its answers, where it is drawn whole."""
    same = ("kind", "variant", "turn", "dataset", "start", "stop")
    values = {name: getattr(task, name) for name in same}
    if task.kind in draws.SHARD_KINDS:
        values |= {"plan": task.plan, **states.kept(task)}
    else:
        values |= {"plan": {"given_by": task.artifact}, "partial": task.artifact}
    return new_task(job, task.checkpoint, task.checkpoint_path, **values)
