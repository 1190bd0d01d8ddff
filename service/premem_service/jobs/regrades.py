"""Grading the answers of a completed job anew: a job of its own, whose tasks need no engine."""

from __future__ import annotations

from fastapi import APIRouter, Response
from sqlalchemy import Connection, insert

from premem.wire.jobs import Job
from premem.wire.reports import RegradeRequest
from premem_service.http.dependencies import DatabaseGiven, SettingsGiven
from premem_service.http.problems import FieldError, described
from premem_service.jobs.inserting import check_answers_are_here, insert_going_on
from premem_service.queue import draws, states
from premem_service.queue.new_tasks import new_task
from premem_service.queue.progress import job_reply
from premem_service.queue.states import completed
from premem_service.storage.rows import JobRow
from premem_service.storage.tables import tasks

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post("/{job}/regrade", status_code=202, responses=described(404, 409))
def post_regrade(
    job: str, request: RegradeRequest, response: Response, database: DatabaseGiven, settings: SettingsGiven
) -> Job:
    """Grade the stored answers of a completed job with another grader: a new job, for any worker, with or without an engine.

    It has a ranking, a subset and a report like any other, and the report says where the two graders disagree. Of a job
    that drew only what its scores needed, the new verdicts may need answers that nobody drew: those take an engine.
    """
    with database.begin() as connection:
        parent = completed(connection, job)
        made = _insert(connection, parent, request, max_tasks=settings.max_tasks)
        reply = job_reply(connection, made.id)
    response.headers["Location"] = f"/v1/jobs/{reply.id}"
    response.headers["Retry-After"] = "1"
    return reply


def _insert(connection: Connection, parent: JobRow, request: RegradeRequest, *, max_tasks: int) -> JobRow:
    check_answers_are_here(parent)
    if request.grader == parent.request.grader:
        raise FieldError("grader", f"is the one that graded job {parent.id} already: name another, or other options")
    job, answered = insert_going_on(connection, parent, kind="regrade", name=request.name, grader=request.grader)
    same = ("kind", "variant", "turn", "plan", "dataset", "start", "stop")
    connection.execute(
        insert(tasks),
        [
            new_task(
                job,
                task.checkpoint,
                task.checkpoint_path,
                **{name: getattr(task, name) for name in same},
                **(states.kept(task) if task.kind == "perplexity" else {"source": task.artifact}),
            )
            for task in answered
        ],
    )
    if states.is_planned(job):  # another grader may need answers that the first one did not
        draws.add_plans(connection, job, max_tasks=max_tasks)
    return job


# For the report
