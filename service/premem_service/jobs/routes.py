"""Scoring jobs: post, list, poll, close, cancel."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from sqlalchemy import select, update

from premem.errors import Conflict
from premem.wire.bodies import Page
from premem.wire.estimates import Estimate
from premem.wire.jobs import ENDED, Job, JobRequest
from premem_service.datasets.reading import check_template, read_rows
from premem_service.http import cursors
from premem_service.http.dependencies import Cursor, DatabaseGiven, Limit, SettingsGiven, StoreGiven
from premem_service.http.problems import FieldError, described
from premem_service.jobs import estimates as costs
from premem_service.jobs.inserting import insert_job
from premem_service.queue import draws, new_tasks, states
from premem_service.queue.progress import job_replies, job_reply
from premem_service.storage.db import Database, now
from premem_service.storage.rows import JobRow, all_of
from premem_service.storage.store import Store
from premem_service.storage.tables import datasets, jobs

ROWS_LOOKED_AT = 256
"""For a column that not every row need have."""

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post(
    "",
    status_code=202,
    response_model=Job,
    responses={200: {"model": Estimate, "description": "Of a dry run: what the job will cost."}, **described(409)},
)
def post_job(
    request: JobRequest,
    response: Response,
    database: DatabaseGiven,
    store: StoreGiven,
    settings: SettingsGiven,
    dry_run: Annotated[bool, Query(description="Only say what the job will cost.")] = False,
    measured_by: Annotated[
        str | None,
        Query(max_length=200, description="Of a dry run: a completed job whose tasks tell lengths and pace."),
    ] = None,
) -> Job | JSONResponse:
    """Start scoring the checkpoints of a run. The answer comes at once; poll `Location` for progress.

    With `dry_run` nothing is started, and the answer says how many tokens, seconds and bytes the job will take.
    """
    check_template(database, request.dataset, request.template, field="dataset")
    check_template(database, request.test_dataset or "", request.template, field="test_dataset")
    _check_columns(database, store, request)
    if dry_run:
        estimate = costs.estimate(database, store, request, measured_by=measured_by)
        return JSONResponse(estimate.model_dump(mode="json"))
    with database.begin() as connection:
        job = insert_job(connection, request)
        if states.is_planned(job):
            draws.add_plans(connection, job, max_tasks=settings.max_tasks)
        new_tasks.add(connection, job, request.checkpoints, first=0, max_tasks=settings.max_tasks)
        if not request.open:
            new_tasks.add_perturbed(connection, job, max_tasks=settings.max_tasks)
        reply = job_reply(connection, job.id)
    response.headers["Location"] = f"/v1/jobs/{reply.id}"
    response.headers["Retry-After"] = "1"
    return reply


@router.get("")
def list_jobs(database: DatabaseGiven, cursor: Cursor = None, limit: Limit = 50) -> Page[Job]:
    """All jobs, the newest first."""
    before = cursors.decode(cursor, of="jobs")
    page = select(jobs).order_by(jobs.c.number.desc()).limit(limit + 1)
    if before is not None:
        page = page.where(jobs.c.number < before)
    with database.connect() as connection:
        rows = all_of(JobRow, connection, page)
        items = job_replies(connection, rows[:limit])
    more = len(rows) > limit
    return Page(items=items, next_cursor=cursors.encode(rows[limit - 1].number, of="jobs") if more else None)


@router.get("/{job}", responses=described(404))
def get_job(job: str, response: Response, database: DatabaseGiven) -> Job:
    """State, counts and progress per checkpoint. `Retry-After` says when to ask again, until the job has ended."""
    with database.connect() as connection:
        reply = job_reply(connection, job)
    if reply.state not in ENDED:
        response.headers["Retry-After"] = str(round(min(max((reply.seconds_left or 0) / 20, 1), 15)))
    return reply


@router.post("/{job}/close", status_code=202, responses=described(404, 409))
def close_job(job: str, response: Response, database: DatabaseGiven, settings: SettingsGiven) -> Job:
    """Say that no more checkpoints will come: the job ends with the last of its tasks."""
    with database.begin() as connection:
        row = states.lock(connection, job)
        if row.state in states.CANCELLED:
            raise Conflict(f"job {job} is {row.state}")
        if row.open:
            connection.execute(update(jobs).where(jobs.c.id == job).values(open=False))
            new_tasks.add_perturbed(connection, row, max_tasks=settings.max_tasks)
            states.settle(connection, job, at=now(connection))
        reply = job_reply(connection, job)
    response.headers["Retry-After"] = "1"
    return reply


@router.post("/{job}/cancel", status_code=202, responses=described(404, 409))
def cancel_job(job: str, response: Response, database: DatabaseGiven) -> Job:
    """Stop a job. Tasks that workers have in hand are dropped at their next heartbeat."""
    with database.begin() as connection:
        state = states.cancel(connection, job, at=now(connection))
        if state not in states.CANCELLED:
            raise Conflict(f"job {job} has {state} already" if state == "failed" else f"job {job} is {state} already")
        reply = job_reply(connection, job)
    response.headers["Retry-After"] = "1"
    return reply


def _check_columns(database: Database, store: Store, request: JobRequest) -> None:
    """Raises FieldError for a perturbation that takes its questions from a column that there is not."""
    named = {one.question_column for one in request.perturbations if one.question_column is not None}
    if not named:
        return
    with database.connect() as connection:
        rows = connection.scalar(select(datasets.c.rows).where(datasets.c.id == request.dataset))
    if rows is None:  # insert_job says so
        return
    first = read_rows(database, store, request.dataset, 0, min(rows, ROWS_LOOKED_AT))["columns"]
    there = sorted({column for row in first for column in json.loads(row)})
    for column in sorted(named.difference(there)):
        raise FieldError("perturbations", f"the data set has no column {column!r}; it has {', '.join(there)}")
