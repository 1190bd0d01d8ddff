"""What workers ask for: a task, more time, a way to give it back or to say that it failed."""

from __future__ import annotations

from fastapi import APIRouter, Response
from sqlalchemy import Connection, select

from premem.errors import NotFound
from premem.wire.jobs import Checkpoint, JobRequest, Perturbation
from premem.wire.tasks import AttemptBody, DrawPlan, FailureReport, HeartbeatReply, LeasedTask, LeaseRequest
from premem_service.http.dependencies import DatabaseGiven, MetricsGiven, SettingsGiven, StoreGiven
from premem_service.http.problems import described
from premem_service.queue import leases, workers
from premem_service.queue.progress import dtype, moment
from premem_service.storage.db import now
from premem_service.storage.rows import JobRow, TaskRow
from premem_service.storage.tables import checkpoints, tasks

router = APIRouter(prefix="/v1/tasks", tags=["tasks"])


@router.post(
    "/lease",
    response_model=LeasedTask,
    responses={204: {"description": "Nothing waits; ask again after `Retry-After` seconds."}},
)
def lease_task(
    request: LeaseRequest,
    response: Response,
    database: DatabaseGiven,
    settings: SettingsGiven,
    metrics: MetricsGiven,
) -> LeasedTask | Response:
    """Lease the next task. It stays this worker's as long as its heartbeats come."""
    with database.begin() as connection:
        at = now(connection)
        workers.see(connection, request, at=at)
        leases.requeue_expired(connection, max_losses=settings.max_losses, at=at)
        task = leases.claim(
            connection,
            worker=request.worker,
            loaded=request.loaded_checkpoint,
            has_engine=request.engine is not None,
            lease_seconds=settings.lease_seconds,
            at=at,
        )
        if task is not None:
            job = leases.start_job(connection, task.job, at=at)
            leased = _reply(connection, task, job, lease_seconds=settings.lease_seconds)
    if task is None:
        return Response(status_code=204, headers={"Retry-After": f"{settings.retry_seconds:g}"})
    metrics.leased.inc()
    return leased


@router.get(
    "/{task}/source",
    response_class=Response,
    responses={200: {"content": {"application/vnd.apache.parquet": {}}}, **described(404)},
)
def get_source(task: str, database: DatabaseGiven, store: StoreGiven) -> Response:
    """The result that a task grades anew. 404: it grades none."""
    with database.connect() as connection:
        artifact = connection.scalar(select(tasks.c.source).where(tasks.c.id == task))
    if artifact is None:
        raise NotFound(f"there is no task {task} that grades anything anew")
    return Response(store.get(artifact), media_type="application/vnd.apache.parquet")


@router.get(
    "/{task}/partial",
    response_class=Response,
    responses={200: {"content": {"application/vnd.apache.parquet": {}}}, **described(404)},
)
def get_partial(task: str, database: DatabaseGiven, store: StoreGiven) -> Response:
    """What is known of a task's rows already, for the worker that goes on with it. 404: nothing is."""
    with database.connect() as connection:
        artifact = connection.scalar(select(tasks.c.partial).where(tasks.c.id == task))
    if artifact is None:
        raise NotFound(f"there is no task {task} of which a part is known")
    return Response(store.get(artifact), media_type="application/vnd.apache.parquet")


@router.post("/{task}/heartbeat", responses=described(404, 409))
def heartbeat(task: str, request: AttemptBody, database: DatabaseGiven, settings: SettingsGiven) -> HeartbeatReply:
    """Keep a lease. 409: it has passed to somebody else."""
    with database.begin() as connection:
        at = now(connection)
        cancelled = leases.extend(connection, task, request.attempt, lease_seconds=settings.lease_seconds, at=at)
    return HeartbeatReply(expires_at=moment(at + settings.lease_seconds), cancelled=cancelled)


@router.post("/{task}/release", status_code=204, responses=described(404, 409))
def release_task(task: str, request: AttemptBody, database: DatabaseGiven) -> None:
    """Give a task back. It counts neither as failed nor as lost."""
    with database.begin() as connection:
        leases.release(connection, task, request.attempt, at=now(connection))


@router.post("/{task}/failure", status_code=204, responses=described(404, 409))
def report_failure(
    task: str, request: FailureReport, database: DatabaseGiven, settings: SettingsGiven, metrics: MetricsGiven
) -> None:
    """Say that an attempt failed."""
    with database.begin() as connection:
        leases.report_failure(
            connection,
            task,
            request.attempt,
            error=request.error,
            permanent=request.permanent,
            whole_checkpoint=request.checkpoint,
            max_failures=settings.max_failures,
            at=now(connection),
        )
    metrics.failed.inc()


def _reply(connection: Connection, task: TaskRow, job: JobRow, *, lease_seconds: float) -> LeasedTask:
    checkpoint = connection.execute(
        select(checkpoints.c.name, checkpoints.c.weights).where(
            checkpoints.c.job == task.job, checkpoints.c.position == task.checkpoint
        )
    ).one()
    request = job.request
    return LeasedTask(
        id=task.id,
        job=task.job,
        attempt=task.attempt,
        lease_seconds=lease_seconds,
        expires_at=moment(task.leased_until),
        kind=task.kind,
        variant=task.variant,
        perturbation=_perturbation(request, task),
        regrade=task.source is not None,
        plan=plan_of(task),
        partial=task.partial is not None,
        checkpoint=Checkpoint(path=task.checkpoint_path, name=checkpoint.name),
        base=request.base,
        dataset=task.dataset,
        start=task.start,
        stop=task.stop,
        sampling=request.sampling,
        template=request.template,
        grader=request.grader,
        dtype=dtype(job),
        tokenizer=job.tokenizer,
        weights=checkpoint.weights,
    )


def plan_of(task: TaskRow) -> DrawPlan | None:
    """Of a draw."""
    if task.kind != "draw" or task.plan is None:
        return None
    return DrawPlan(**{name: task.plan[name] for name in ("rows", "floor", "ceiling")})


def _perturbation(request: JobRequest, task: TaskRow) -> Perturbation | None:
    if task.kind != "perturbed" or task.variant == 0:
        return None
    return request.perturbations[task.variant - 1]
