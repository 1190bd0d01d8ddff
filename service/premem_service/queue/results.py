"""What workers hand in: one Parquet file per task, taken whole in one transaction or not at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated
from uuid import uuid4

import polars as pl
import structlog
from fastapi import APIRouter, Query, Request
from sqlalchemy import ColumnElement, Connection, select, update
from starlette.concurrency import run_in_threadpool

from premem.errors import InputError, NotFound, StaleAttempt
from premem.payloads import embeddings
from premem.payloads.effort import read_effort
from premem.payloads.results import SCHEMA, WEIGHTS, check, check_partial, read, written_anew
from premem.wire.tasks import ResultSummary
from premem_service.http.dependencies import DatabaseGiven, MetricsGiven, SettingsGiven, StoreGiven, Wake
from premem_service.http.problems import TooLarge, described
from premem_service.queue import draws, leases, states
from premem_service.queue.tasks import plan_of
from premem_service.storage.db import Database, now
from premem_service.storage.rows import CheckpointRow, JobRow, TaskRow, first_of, one_of
from premem_service.storage.store import Store, StoreError
from premem_service.storage.tables import checkpoints, jobs, tasks

PREFIX = "results/"

router = APIRouter(prefix="/v1/tasks", tags=["tasks"])
log = structlog.get_logger(__name__)

_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.put(
    "/{task}/result",
    responses=described(404, 409, 413),
    openapi_extra=_BODY,
)
async def put_result(
    task: str,
    request: Request,
    attempt: Annotated[int, Query(ge=1, lt=2**31)],
    database: DatabaseGiven,
    store: StoreGiven,
    settings: SettingsGiven,
    metrics: MetricsGiven,
    wake: Wake,
) -> ResultSummary:
    """Hand in a task's result. Sent again by the same attempt it is the same answer; a stale attempt gets 409."""
    content = await _body(request, most=settings.max_result_bytes)
    taken = await run_in_threadpool(take, database, store, task, attempt, content)
    if not taken.repeated:
        metrics.completed.inc()
        metrics.task_seconds.observe(taken.seconds)
    if taken.job_state == "finalizing":
        wake()
    return ResultSummary(task=task, attempt=attempt, rows=taken.rows)


@router.put(
    "/{task}/partial",
    status_code=204,
    responses=described(404, 409, 413),
    openapi_extra=_BODY,
)
async def put_partial(
    task: str,
    request: Request,
    attempt: Annotated[int, Query(ge=1, lt=2**31)],
    database: DatabaseGiven,
    store: StoreGiven,
    settings: SettingsGiven,
) -> None:
    """Keep what is done of a task: should its worker be lost, the next one goes on from there."""
    content = await _body(request, most=settings.max_result_bytes)
    await run_in_threadpool(keep, database, store, task, attempt, content)


def keep(database: Database, store: Store, task: str, attempt: int, content: bytes) -> None:
    """The last partial result of an attempt replaces the one before. Raises InputError, StaleAttempt, NotFound, StoreError."""
    with database.connect() as connection:
        row, job = _task(connection, task)
        if row.attempt != attempt or row.state != "leased":
            raise _refusal(connection, row, job, attempt)
    samples = job.request.sampling.samples
    check_partial(content, kind=row.kind, start=row.start, stop=row.stop, samples=samples)
    artifact = f"{draws.PREFIX}{task}/{attempt}-{uuid4().hex}.parquet"
    store.put(artifact, content)
    mine = (tasks.c.id == task, tasks.c.attempt == attempt, tasks.c.state == "leased")
    with database.begin() as connection:
        kept = connection.execute(update(tasks).where(*mine).values(partial=artifact)).rowcount == 1
        refusal = None if kept else leases.stale(connection, task, attempt)
    # What is named no more is collected as garbage: whoever was just told of it may still be reading.
    if refusal is not None:
        store.delete([artifact])
        raise refusal


@dataclass(frozen=True, slots=True)
class Taken:
    rows: int
    seconds: float
    """From lease to result."""
    job_state: str
    repeated: bool = False


def take(database: Database, store: Store, task: str, attempt: int, content: bytes) -> Taken:
    """Check a result, store it and commit it. Raises InputError, StaleAttempt, NotFound, StoreError."""
    with database.connect() as connection:
        row, job = _task(connection, task)
        if (done := _done(row, job, attempt)) is not None:
            return done
        if not _wanted(row, job, attempt):
            raise _refusal(connection, row, job, attempt)
    counters, produced_by = _checked(row, job, content)
    _leave_out_given(store, row, counters)
    if row.source is None and (effort := read_effort(content)) is not None:
        counted = ("prompt_tokens", "cached_tokens", "engine_seconds", "cache_bytes")
        counters |= {name: getattr(effort, name) for name in counted}
    for fingerprint in ("tokenizer", WEIGHTS):
        if len(produced_by[fingerprint]) > 64:
            raise InputError(f"the fingerprint {fingerprint!r} in the result's metadata is longer than 64 characters")
    artifact = f"{PREFIX}{task}/{attempt}-{uuid4().hex}.parquet"
    store.put(artifact, content)
    with database.begin() as connection:
        taken = _commit(connection, row, attempt, artifact, counters=counters, produced_by=produced_by)
    # After an error nobody knows whether the commit took place: then what no row names is collected as garbage.
    if isinstance(taken, StaleAttempt):
        store.delete([artifact])
        raise taken
    if taken.repeated:
        store.delete([artifact])
    if row.kind in draws.SHARD_KINDS:
        # Now, and not in the next round: the worker is about to ask for more, with the right weights in memory.
        try:
            taken = replace(taken, job_state=draws.plan_shard(database, store, row.job, row.start))
        except StoreError as error:  # the result is taken all the same, and the next round plans
            log.warning("a shard is planned later", job=row.job, start=row.start, reason=str(error))
    return taken


def _checked(row: TaskRow, job: JobRow, content: bytes) -> tuple[dict[str, float], dict[str, str]]:
    """What is counted of a result, and its metadata. Raises InputError."""
    if row.kind == "embed":
        frame, produced_by = embeddings.check(content, start=row.start, stop=row.stop)
        skipped = int(frame["skipped"].is_not_null().sum())
        return {"skipped": skipped, "samples": 0, "tokens": int(frame["tokens"].sum())}, produced_by
    samples = job.request.sampling.samples
    frame, produced_by = check(
        content,
        kind=row.kind,
        start=row.start,
        stop=row.stop,
        samples=samples,
        plan=plan_of(row),
        regraded=row.source is not None,
    )
    counters = _counters(frame)
    if row.source is not None:
        counters["tokens"] = 0  # none was scored or sampled
    return counters, produced_by


def _leave_out_given(store: Store, row: TaskRow, counters: dict[str, float]) -> None:
    """What was there before the job began, it did not cost. Of what is graded anew nothing did, and all is counted."""
    plan = row.plan or {} if row.source is None else {}
    given = plan.get("given", {})
    if (artifact := plan.get("given_by")) is not None:
        counted = _counters(read(store.get(artifact), SCHEMA)[0])
        given = {name: counted[name] for name in ("samples", "tokens")}
    for name, number in given.items():
        counters[name] -= number


def _commit(
    connection: Connection,
    row: TaskRow,
    attempt: int,
    artifact: str,
    *,
    counters: dict[str, float],
    produced_by: dict[str, str],
) -> Taken | StaleAttempt:
    """One transaction: the attempt is still the one that is wanted, and its artifact counts from now on.

    A result that ends its checkpoint is answered with StaleAttempt, not raised: that end must be committed.
    """
    states.lock(connection, row.job)
    row, job = _task(connection, row.id)
    if (done := _done(row, job, attempt)) is not None:
        return done
    if not _wanted(row, job, attempt):
        return _refusal(connection, row, job, attempt)
    at = now(connection)
    checkpoint = one_of(CheckpointRow, connection, select(checkpoints).where(*_of(row)))
    if (fault := _fault(job, checkpoint, produced_by)) is not None:
        states.fail_checkpoint(connection, row.job, row.checkpoint, error=fault, at=at)
        states.settle(connection, row.job, at=at)
        return StaleAttempt(fault)
    committed = (
        update(tasks)
        .where(tasks.c.id == row.id, tasks.c.attempt == attempt, tasks.c.state.in_(states.OUTSTANDING))
        .values(
            state="completed", artifact=artifact, partial=None, finished_at=at, expires_at=None, error=None, **counters
        )
    )
    if connection.execute(committed).rowcount == 0:  # a claim was faster
        return leases.stale(connection, row.id, attempt)
    if job.produced_by is None:
        makers = {key: value for key, value in produced_by.items() if key != WEIGHTS}
        first = {"produced_by": makers, "tokenizer": produced_by["tokenizer"] or None}
        connection.execute(update(jobs).where(jobs.c.id == row.job).values(first))
    if checkpoint.weights is None and produced_by[WEIGHTS]:
        connection.execute(update(checkpoints).where(*_of(row)).values(weights=produced_by[WEIGHTS]))
    state = states.settle(connection, row.job, at=at)
    return Taken(
        rows=row.stop - row.start, seconds=0.0 if row.leased_at is None else at - row.leased_at, job_state=state
    )


def _task(connection: Connection, task: str) -> tuple[TaskRow, JobRow]:
    row = first_of(TaskRow, connection, select(tasks).where(tasks.c.id == task))
    if row is None:
        raise NotFound(f"there is no task {task}")
    return row, one_of(JobRow, connection, select(jobs).where(jobs.c.id == row.job))


def _done(row: TaskRow, job: JobRow, attempt: int) -> Taken | None:
    """What was said when this very attempt handed in before."""
    if row.state != "completed" or row.attempt != attempt:
        return None
    return Taken(rows=row.stop - row.start, seconds=0.0, job_state=job.state, repeated=True)


def _wanted(row: TaskRow, job: JobRow, attempt: int) -> bool:
    """A lease that ran out is no reason to throw work away, as long as nobody else has the task."""
    return row.attempt == attempt and row.state in states.OUTSTANDING and job.state in states.ACTIVE


def _refusal(connection: Connection, row: TaskRow, job: JobRow, attempt: int) -> StaleAttempt:
    if job.state in states.CANCELLED:
        return StaleAttempt(f"job {job.id} was cancelled; the result of task {row.id} is not wanted")
    return leases.stale(connection, row.id, attempt)


def _of(row: TaskRow) -> tuple[ColumnElement[bool], ...]:
    """Where the task's checkpoint stands."""
    return checkpoints.c.job == row.job, checkpoints.c.position == row.checkpoint


def _fault(job: JobRow, checkpoint: CheckpointRow, produced_by: dict[str, str]) -> str | None:
    """Of the checkpoint, beside what results before said of the job and of it. A worker may tell neither."""
    name, tokenizer, weights = checkpoint.name, produced_by["tokenizer"], produced_by[WEIGHTS]
    if job.tokenizer is not None and tokenizer and tokenizer != job.tokenizer:
        return f"checkpoint {name!r} has another tokenizer than the job's first results: all checkpoints must share one"
    if checkpoint.weights is not None and weights and weights != checkpoint.weights:
        return written_anew(name)
    return None


def _counters(frame: pl.DataFrame) -> dict[str, float]:
    sampled, scored = pl.col("tokens").list.sum().sum(), pl.col("target_tokens").sum()
    counted = frame.select(
        skipped=pl.col("skipped").is_not_null().sum(),
        samples=pl.col("verdicts").list.len().sum(),
        tokens=sampled.fill_null(0) + scored.fill_null(0),
    )
    return {name: int(value or 0) for name, value in counted.row(0, named=True).items()}


async def _body(request: Request, *, most: int) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > most:
            raise TooLarge(f"the result is longer than {most:,} bytes: take fewer rows per task (shard_rows)")
    return bytes(content)
