"""Writing a new job into the tables, once everything that it names has been checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from uuid import uuid4

from sqlalchemy import Connection, func, insert, select

from premem.errors import Conflict, GraderError
from premem.forecasting.forecast import SPAN
from premem.forecasting.thresholds import FIRST_CHECKPOINT_QUANTILE, Threshold, resolve
from premem.grading import get_grader
from premem.wire.bodies import GraderChoice
from premem.wire.jobs import Checkpoint, JobRequest
from premem_service.http.problems import FieldError
from premem_service.queue import states
from premem_service.reports.calibrations import held_calibration, threshold_of
from premem_service.reports.runs import setting_parts
from premem_service.storage import tables
from premem_service.storage.db import now
from premem_service.storage.rows import (
    CheckpointRow,
    DatasetRow,
    JobRow,
    TaskRow,
    all_of,
    first_of,
    one_of,
)
from premem_service.storage.tables import PLAN, datasets, jobs, tasks

NUMBER_LOCK = 7_236_637
"""Any number: jobs are numbered one after the other."""
WITHOUT_THRESHOLD = (
    f"to be taken from the first checkpoint: the {FIRST_CHECKPOINT_QUANTILE:.1%} quantile of its negative "
    "log-likelihoods; no calibration"
)


def insert_job(connection: Connection, request: JobRequest, *, span: str = SPAN, **values: object) -> JobRow:
    """The new job without its checkpoints. `values` are further columns. Raises FieldError, naming what there is not."""
    dataset = _dataset(connection, request.dataset, field="dataset")
    if request.test_dataset is not None:
        _dataset(connection, request.test_dataset, field="test_dataset")
    if request.previous is not None:
        check_previous(connection, request.previous)
    grader = request.grader or GraderChoice.model_validate(dataset.grader)
    check_grader(grader)
    threshold, calibration = _threshold(connection, request)
    task = request.task or dataset.name or dataset.id
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
    return one_of(JobRow, connection, insert(jobs).values(row).returning(jobs))


def insert_derived(
    connection: Connection, parent: JobRow, *, kind: str, checkpoints: Sequence[Checkpoint], **changes: object
) -> JobRow:
    """A new job without tasks that goes on from a completed one: what that was asked for, but for the `changes`.

    Its threshold stays; a calibration does not carry over. Raises FieldError, naming what there is not.
    """
    asked = parent.request.model_dump(exclude={"acquire"})
    own = {"open": False, "memorized_below": None, "calibration": None, "previous": None, "checkpoints": checkpoints}
    request = JobRequest.model_validate({**asked, **own, **changes})
    kept = ("tokenizer", "memorized_below", "threshold_basis", "threshold_source")
    return insert_job(
        connection, request, kind=kind, parent=parent.id, **{name: getattr(parent, name) for name in kept}
    )


def check_answers_are_here(parent: JobRow) -> None:
    """Raises Conflict for a job that was imported."""
    if parent.recorded is not None:
        raise Conflict(f"job {parent.id} was imported: the answers that it was scored by are not here")


def insert_going_on(
    connection: Connection, parent: JobRow, *, kind: str, name: str, **changes: object
) -> tuple[JobRow, list[TaskRow]]:
    """A derived job with the checkpoints of its parent that count, and the parent's completed tasks of those.

    Raises FieldError, naming what there is not.
    """
    counted = [position for position, _ in connection.execute(states.scored_checkpoints(parent.id)).all()]
    mine = tables.checkpoints
    of_parent = select(mine).where(mine.c.job == parent.id, mine.c.position.in_(counted)).order_by(mine.c.position)
    kept = all_of(CheckpointRow, connection, of_parent)
    named = [Checkpoint(path=one.path, name=one.name) for one in kept]
    job = insert_derived(connection, parent, kind=kind, checkpoints=named, name=name or parent.name, **changes)
    connection.execute(insert(mine), [{**asdict(one), "job": job.id} for one in kept])
    done = select(tasks).where(
        tasks.c.job == parent.id,
        tasks.c.checkpoint.in_(counted),
        tasks.c.state == "completed",
        tasks.c.kind != PLAN,
    )
    return job, all_of(TaskRow, connection, done)


def _dataset(connection: Connection, id_: str, *, field: str) -> DatasetRow:
    # Held until the job is there: nobody deletes the data set in between.
    held = select(datasets).where(datasets.c.id == id_).with_for_update(read=True, key_share=True)
    found = first_of(DatasetRow, connection, held)
    if found is None:
        raise FieldError(field, f"there is no data set {id_!r}: upload it to /v1/datasets first")
    return found


def _threshold(connection: Connection, request: JobRequest) -> tuple[Threshold | None, str | None]:
    """The threshold, where it is known already, and the id of the calibration that it comes from."""
    if request.calibration is not None:
        calibration = held_calibration(connection, request.calibration)
        return threshold_of(calibration), calibration.id
    return None if request.memorized_below is None else resolve(request.memorized_below), None


def check_grader(choice: GraderChoice) -> None:
    """Raises FieldError for a grader that there is not, or options that it does not take."""
    try:
        get_grader(choice)
    except GraderError as error:
        raise FieldError("grader", str(error)) from error


def check_previous(connection: Connection, previous: str) -> None:
    """Raises FieldError."""
    row = connection.execute(select(jobs.c.state, jobs.c.kind).where(jobs.c.id == previous)).one_or_none()
    if row is None:
        raise FieldError("previous", f"there is no job {previous!r}")
    if row.kind == "acquire" or row.state != "completed":
        raise FieldError("previous", f"job {previous} has no scores (it is {row.state}): name a completed one")
