"""A job as it is told to clients: counted over committed results, with an estimate of the time left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, case, func, select

from premem.errors import NotFound
from premem.forecasting.thresholds import NEEDS_CALIBRATION
from premem.wire.jobs import CheckpointProgress, Job, JobCounts, TaskCounts, ThresholdReply
from premem_service.queue.states import ACTIVE, is_planned
from premem_service.storage.db import now
from premem_service.storage.rows import CheckpointRow, FailedRow, JobRow, TaskSums, all_of, first_of
from premem_service.storage.tables import PLAN, checkpoints, jobs, tasks

RECENT_TASKS = 32
"""The estimate rests on as many of the last finished tasks: workers come and go."""
SHOWN_ERRORS = 20
NOT_YET = "the job is not completed: what its calibration forecasts stands in its report then"


def job_reply(connection: Connection, job: str) -> Job:
    """Raises NotFound."""
    row = first_of(JobRow, connection, select(jobs).where(jobs.c.id == job))
    if row is None:
        raise NotFound(f"there is no job {job}")
    return job_replies(connection, [row])[0]


def job_replies(connection: Connection, rows: Sequence[JobRow]) -> list[Job]:
    ids = [row.id for row in rows]
    counted: dict[str, list[TaskSums]] = defaultdict(list)
    sums = (
        select(
            tasks.c.job,
            tasks.c.checkpoint,
            tasks.c.kind,
            tasks.c.state,
            func.count().label("tasks"),
            func.sum(tasks.c.stop - tasks.c.start).label("examples"),
            func.sum(tasks.c.skipped).label("skipped"),
            func.sum(tasks.c.samples).label("samples"),
            func.sum(tasks.c.tokens).label("tokens"),
            func.sum(tasks.c.prompt_tokens).label("prompt_tokens"),
            func.sum(tasks.c.cached_tokens).label("cached_tokens"),
            func.sum(tasks.c.engine_seconds).label("engine_seconds"),
            func.sum(case((tasks.c.engine_seconds > 0, tasks.c.tokens), else_=0)).label("timed_tokens"),
        )
        .where(tasks.c.job.in_(ids))
        .group_by(tasks.c.job, tasks.c.checkpoint, tasks.c.kind, tasks.c.state)
    )
    for group in all_of(TaskSums, connection, sums):
        counted[group.job].append(group)
    named: dict[str, list[CheckpointRow]] = defaultdict(list)
    ordered = select(checkpoints).where(checkpoints.c.job.in_(ids)).order_by(checkpoints.c.position)
    for checkpoint in all_of(CheckpointRow, connection, ordered):
        named[checkpoint.job].append(checkpoint)
    return [_reply(connection, row, named[row.id], counted[row.id]) for row in rows]


def _reply(connection: Connection, row: JobRow, checkpoint_rows: list[CheckpointRow], groups: list[TaskSums]) -> Job:
    counts = _counts(groups) if row.recorded is None else _recorded_counts(row)
    request = row.request
    return Job(
        id=row.id,
        kind=row.kind,
        parent=row.parent,
        previous=request.previous,
        perturbations=request.perturbations,
        name=row.name,
        state=row.state,
        open=row.open,
        dataset=row.dataset,
        test_dataset=row.test_dataset,
        sampling=request.sampling,
        template=request.template,
        grader=request.grader,
        dtype=dtype(row),
        trajectory=request.trajectory,
        below=request.below,
        threshold=threshold_reply(row),
        calibration=row.calibration,
        task=row.setting["task"],
        learning_rate=request.learning_rate,
        copied_from=request.copied_from,
        recorded=row.recorded is not None,
        counts=counts,
        checkpoints=[
            _checkpoint(row, checkpoint, [group for group in groups if group.checkpoint == checkpoint.position])
            for checkpoint in checkpoint_rows
        ],
        created_at=moment(row.created_at),
        started_at=None if row.started_at is None else moment(row.started_at),
        finished_at=None if row.finished_at is None else moment(row.finished_at),
        seconds_left=_seconds_left(connection, row, groups),
        tokens_per_second=_tokens_per_second(groups),
        errors=_errors(connection, row, checkpoint_rows) if counts.tasks.failed or row.error else [],
        warnings=row.warnings,
    )


def _counts(groups: list[TaskSums]) -> JobCounts:
    """A draw counts no pair: its perplexity did."""
    leased = [group for group in groups if group.kind != PLAN]
    done = [group for group in leased if group.state == "completed"]
    draws = [group for group in done if group.kind == "draw"]
    drawn, length = (sum(int(getattr(group, name)) for group in draws) for name in ("samples", "tokens"))
    saved = sum(int(group.samples) for group in groups if group.kind == PLAN and group.state == "completed")
    return JobCounts(
        tasks=_task_counts(leased),
        examples=sum(int(group.examples) for group in done if group.kind != "draw"),
        examples_total=sum(int(group.examples) for group in leased if group.kind != "draw"),
        skipped=sum(int(group.skipped) for group in done if group.kind != "draw"),
        samples=sum(int(group.samples) for group in done),
        tokens=sum(int(group.tokens) for group in done),
        prompt_tokens=sum(int(group.prompt_tokens or 0) for group in done),
        cached_tokens=sum(int(group.cached_tokens or 0) for group in done),
        engine_seconds=sum(float(group.engine_seconds or 0.0) for group in done),
        samples_saved=saved,
        tokens_saved=round(saved * length / drawn) if drawn else 0,
    )


def _recorded_counts(row: JobRow) -> JobCounts:
    """Nobody worked on it here."""
    lines = [] if row.report is None else row.report.checkpoints
    examples = sum(line.examples for line in lines)
    samples = examples * row.request.sampling.samples
    return JobCounts(
        tasks=TaskCounts(), examples=examples, examples_total=examples, skipped=0, samples=samples, tokens=0
    )


def _task_counts(groups: list[TaskSums]) -> TaskCounts:
    by_state: dict[str, int] = defaultdict(int)
    for group in groups:
        by_state[group.state] += group.tasks
    return TaskCounts(total=sum(by_state.values()), **by_state)


def _checkpoint(job: JobRow, row: CheckpointRow, groups: list[TaskSums]) -> CheckpointProgress:
    counts = _task_counts(groups)
    progress = CheckpointProgress(name=row.name, path=row.path, state="queued", tasks=counts, error=row.error)
    if row.error is not None or counts.failed:
        progress.state = "failed"
    elif counts.cancelled and not counts.leased:
        progress.state = "cancelled"
    elif counts.completed == counts.total and (counts.total or job.recorded) and not _may_draw(job):
        progress.state = "completed"
    elif counts.leased or counts.completed:
        progress.state = "running"
    return progress


def _may_draw(job: JobRow) -> bool:
    """Whether a checkpoint without a task in the queue may get one."""
    return is_planned(job) and job.state in ACTIVE


def _tokens_per_second(groups: list[TaskSums]) -> float | None:
    """Over the engines' seconds, not those since the job began; None where no result tells any."""
    done = [group for group in groups if group.state == "completed"]
    seconds = sum(float(group.engine_seconds or 0.0) for group in done)
    # Tokens of results that tell no seconds, such as regraded ones, took none of these.
    return sum(int(group.timed_tokens) for group in done) / seconds if seconds else None


def _seconds_left(connection: Connection, row: JobRow, groups: list[TaskSums]) -> float | None:
    """Examples that are left, at the rate of the last tasks; None where nothing can be said."""
    # Of a planned job the draws take the time, and until there is one nobody knows how long; a shard whose plan is not
    # done is taken to need one more.
    counted = [group for group in groups if group.kind != PLAN or group.state == "queued"]
    left = sum(int(group.examples) for group in counted if group.state in ("queued", "leased"))
    kinds = [tasks.c.kind == "draw"] if is_planned(row) else [tasks.c.kind != PLAN]
    done = [group for group in groups if group.state == "completed" and group.kind != PLAN]
    if is_planned(row):
        done = [group for group in done if group.kind == "draw"]
    if row.state != "running" or not done:
        return 0.0 if row.finished_at is not None else None
    recent = (
        select(tasks.c.leased_at, (tasks.c.stop - tasks.c.start).label("examples"))
        .where(tasks.c.job == row.id, tasks.c.state == "completed", tasks.c.leased_at.is_not(None), *kinds)
        .order_by(tasks.c.finished_at.desc())
        .limit(RECENT_TASKS)
        .subquery()
    )
    since, examples = connection.execute(select(func.min(recent.c.leased_at), func.sum(recent.c.examples))).one()
    if since is None:
        return None
    seconds = max(now(connection) - since, 1e-3)
    return float(left * seconds / float(examples))


def _errors(connection: Connection, row: JobRow, checkpoint_rows: list[CheckpointRow]) -> list[str]:
    """The job's own, each checkpoint's, and those of tasks that failed alone."""
    found = [] if row.error is None else [row.error]
    names = {checkpoint.position: checkpoint.name for checkpoint in checkpoint_rows}
    found += [f"{one.name}: {one.error}" for one in checkpoint_rows if one.error is not None]
    whole = [one.position for one in checkpoint_rows if one.error is None]
    alone = (
        select(tasks.c.checkpoint, tasks.c.kind, tasks.c.start, tasks.c.stop, tasks.c.error)
        .where(tasks.c.job == row.id, tasks.c.state == "failed", tasks.c.checkpoint.in_(whole))
        .order_by(tasks.c.checkpoint, tasks.c.kind, tasks.c.start)
        .limit(SHOWN_ERRORS)
    )
    for task in all_of(FailedRow, connection, alone):
        place = f"{task.kind} rows {task.start} to {task.stop - 1}"
        found.append(f"{names[task.checkpoint]}, {place}: {task.error}")
    return found[:SHOWN_ERRORS]


def threshold_reply(row: JobRow) -> ThresholdReply:
    reply = ThresholdReply(
        memorized_below=row.memorized_below,
        basis=row.threshold_basis,
        source=row.threshold_source,
        forecast_reason=NEEDS_CALIBRATION,
    )
    if row.calibration is None:
        return reply
    if row.report is None:
        reply.forecast_reason = NOT_YET
    else:
        final = row.report.threshold
        reply.forecast, reply.forecast_reason = final.forecast, final.forecast_reason
    return reply


def dtype(row: JobRow) -> str | None:
    """What the job asks for, or what its first result was computed in: all checkpoints are scored in one."""
    named: str | None = row.request.dtype
    if named is not None:
        return named
    used = None if row.produced_by is None else row.produced_by["dtype"]
    return used if used in ("float32", "bfloat16", "float16") else None


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
