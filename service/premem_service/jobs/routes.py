"""Scoring jobs: post, list, poll, close, cancel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from sqlalchemy import Connection, RowMapping, func, insert, select, update

from premem.errors import Conflict, GraderError
from premem.forecasting.forecast import SPAN
from premem.forecasting.thresholds import FIRST_CHECKPOINT_QUANTILE, Threshold, resolve
from premem.grading import get_grader
from premem.wire.bodies import ENDED, Checkpoint, GraderChoice, Job, JobRequest, Page
from premem.wire.estimates import Estimate
from premem_service.datasets.routes import read_rows
from premem_service.http import cursors
from premem_service.http.dependencies import Cursor, DatabaseGiven, Limit, SettingsGiven, StoreGiven
from premem_service.http.problems import FieldError, described
from premem_service.jobs import checkpoints
from premem_service.jobs import estimates as costs
from premem_service.queue import draws, states
from premem_service.queue.progress import job_replies, job_reply
from premem_service.reports.calibrations import held_calibration, threshold_of
from premem_service.reports.changes import check_previous
from premem_service.reports.runs import setting_parts
from premem_service.storage import tables
from premem_service.storage.db import Database, now
from premem_service.storage.store import Store
from premem_service.storage.tables import datasets, jobs, tasks

NUMBER_LOCK = 7_236_637
"""Any number: jobs are numbered one after the other."""
ROWS_LOOKED_AT = 256
"""For a column that not every row need have."""
WITHOUT_THRESHOLD = (
    f"to be taken from the first checkpoint: the {FIRST_CHECKPOINT_QUANTILE:.1%} quantile of its negative "
    "log-likelihoods; no calibration"
)

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
    _check_columns(database, store, request)
    if dry_run:
        told = costs.estimate(database, store, request, measured_by=measured_by)
        return JSONResponse(told.model_dump(mode="json"))
    with database.begin() as connection:
        job = insert_job(connection, request)
        if states.is_planned(job):
            draws.add_plans(connection, job, max_tasks=settings.max_tasks)
        checkpoints.add(connection, job, request.checkpoints, first=0, max_tasks=settings.max_tasks)
        if not request.open:
            checkpoints.add_perturbed(connection, job, max_tasks=settings.max_tasks)
        reply = job_reply(connection, job["id"])
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
        rows = connection.execute(page).mappings().all()
        items = job_replies(connection, rows[:limit])
    more = len(rows) > limit
    return Page(items=items, next_cursor=cursors.encode(rows[limit - 1]["number"], of="jobs") if more else None)


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
        if row["state"] in states.CANCELLED:
            raise Conflict(f"job {job} is {row['state']}")
        if row["open"]:
            connection.execute(update(jobs).where(jobs.c.id == job).values(open=False))
            checkpoints.add_perturbed(connection, row, max_tasks=settings.max_tasks)
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


def insert_job(connection: Connection, request: JobRequest, *, span: str = SPAN, **values: object) -> RowMapping:
    """The new job without its checkpoints. `values` are further columns. Raises FieldError, naming what there is not."""
    dataset = _dataset(connection, request.dataset, field="dataset")
    if request.test_dataset is not None:
        _dataset(connection, request.test_dataset, field="test_dataset")
    if request.previous is not None:
        check_previous(connection, request.previous)
    grader = request.grader or GraderChoice.model_validate(dataset["grader"])
    check_grader(grader)
    threshold, calibration = _threshold(connection, request)
    task = request.task or dataset["name"] or dataset["id"]
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(NUMBER_LOCK)))
    number = (connection.scalar(select(func.max(jobs.c.number))) or 0) + 1
    row = {
        "id": f"job_{uuid4().hex}",
        "number": number,
        "name": request.name,
        "state": "queued",
        "open": request.open,
        "dataset": request.dataset,
        "test_dataset": request.test_dataset,
        "request": request.model_copy(update={"grader": grader, "trajectory": request.trajectory_drawn}).model_dump(
            mode="json", exclude={"checkpoints"}
        ),
        "memorized_below": None if threshold is None else threshold.memorized_below,
        "threshold_basis": "quantile" if threshold is None else threshold.basis,
        "threshold_source": WITHOUT_THRESHOLD if threshold is None else threshold.source,
        "setting": setting_parts(task=task, grader=grader, template=request.template, span=span),
        "calibration": calibration,
        "warnings": [],
        "finalizing_attempts": 0,
        "created_at": now(connection),
        **values,
    }
    return connection.execute(insert(jobs).values(row).returning(jobs)).mappings().one()


def insert_derived(
    connection: Connection, parent: RowMapping, *, kind: str, checkpoints: Sequence[Checkpoint], **changes: object
) -> RowMapping:
    """A new job without tasks that goes on from a completed one: what that was asked for, but for the `changes`.

    Its threshold stays; a calibration does not carry over. Raises FieldError, naming what there is not.
    """
    own = {"open": False, "memorized_below": None, "calibration": None, "previous": None, "checkpoints": checkpoints}
    request = JobRequest.model_validate({**parent["request"], **own, **changes})
    kept = ("tokenizer", "memorized_below", "threshold_basis", "threshold_source")
    return insert_job(connection, request, kind=kind, parent=parent["id"], **{name: parent[name] for name in kept})


def check_answers_are_here(parent: RowMapping) -> None:
    """Raises Conflict for a job that was imported."""
    if parent["recorded"] is not None:
        raise Conflict(f"job {parent['id']} was imported: the answers that it was scored by are not here")


def insert_going_on(
    connection: Connection, parent: RowMapping, *, kind: str, name: str, **changes: object
) -> tuple[RowMapping, list[RowMapping]]:
    """A derived job with the checkpoints of its parent that count, and the parent's completed tasks of those.

    Raises FieldError, naming what there is not.
    """
    counted = [position for position, _ in connection.execute(states.scored_checkpoints(parent["id"])).all()]
    mine = tables.checkpoints
    of_parent = select(mine).where(mine.c.job == parent["id"], mine.c.position.in_(counted)).order_by(mine.c.position)
    kept = connection.execute(of_parent).mappings().all()
    named = [Checkpoint(path=one["path"], name=one["name"]) for one in kept]
    job = insert_derived(connection, parent, kind=kind, checkpoints=named, name=name or parent["name"], **changes)
    connection.execute(insert(mine), [{**one, "job": job["id"]} for one in kept])
    done = select(tasks).where(
        tasks.c.job == parent["id"],
        tasks.c.checkpoint.in_(counted),
        tasks.c.state == "completed",
        tasks.c.kind != states.PLAN,
    )
    return job, list(connection.execute(done).mappings().all())


def _dataset(connection: Connection, id_: str, *, field: str) -> RowMapping:
    # Held until the job is there: nobody deletes the data set in between.
    held = select(datasets).where(datasets.c.id == id_).with_for_update(read=True, key_share=True)
    found = connection.execute(held).mappings().one_or_none()
    if found is None:
        raise FieldError(field, f"there is no data set {id_!r}: upload it to /v1/datasets first")
    return found


def _threshold(connection: Connection, request: JobRequest) -> tuple[Threshold | None, str | None]:
    """The threshold, where it is known already, and the id of the calibration that it comes from."""
    if request.calibration is not None:
        calibration = held_calibration(connection, request.calibration)
        return threshold_of(calibration), calibration["id"]
    return None if request.memorized_below is None else resolve(request.memorized_below), None


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


def check_grader(choice: GraderChoice) -> None:
    """Raises FieldError for a grader that there is not, or options that it does not take."""
    try:
        get_grader(choice)
    except GraderError as error:
        raise FieldError("grader", str(error)) from error
