"""What is still to be drawn of a job whose trajectory is not everything, shard by shard.

Once the perplexities of a shard are in, it is known which answers can change a score (premem.method.planning). They are drawn
in waves: one task per wave, with all examples of the shard that need answers of one checkpoint. All shards go through
the checkpoints in the same order, so that a worker's weights are swapped about twice per checkpoint: of `final` first
the last one, where it is the score itself, then backwards, and the last one again where it only caps; of `full` from
the first to the last. A task of kind `plan` stands for each shard until nothing is left to draw: a service that ends in
between loses nothing.

Shapes: C checkpoints that count, R rows of a shard.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl
import structlog
from numpy.typing import NDArray
from sqlalchemy import Connection, and_, exists, func, insert, select, tuple_, update

from premem.forecasting.thresholds import from_first_checkpoint
from premem.method.memorization import memorized
from premem.method.planning import Goal, next_goal
from premem.payloads.results import GROUP_ROWS, metadata
from premem_service.queue import states
from premem_service.queue.new_tasks import check_room, new_task, shard_tasks
from premem_service.storage.db import Database, now
from premem_service.storage.rows import CheckpointRow, JobRow, TaskRow, all_of, one_of
from premem_service.storage.store import ArtifactLost, Store
from premem_service.storage.tables import PLAN, checkpoints, datasets, jobs, tasks

PREFIX = "partials/"
SHARD_KINDS = ("perplexity", "draw")
DUE_AT_ONCE = 256
_FIRST_DRAWS, _CAPS = 1_000_000, 2_000_000
"""Turns: after the perplexities of any number of checkpoints, and after the other draws."""
_SERVICE = CheckpointRow(job="", position=-1, name="", path="", weights=None, error=None)
"""In place of a checkpoint."""

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

log = structlog.get_logger(__name__)


def add_plans(connection: Connection, job: JobRow, *, max_tasks: int) -> None:
    """One for every shard of a new planned job. Raises FieldError where the job would have more than `max_tasks`."""
    rows = connection.scalar(select(datasets.c.rows).where(datasets.c.id == job.dataset)) or 0
    check_room(connection, job, [rows], max_tasks=max_tasks)
    plans = list(shard_tasks(job, _SERVICE, kind=PLAN, dataset=job.dataset, rows=rows))
    if plans:
        connection.execute(insert(tasks), plans)


def plan_due(database: Database, store: Store, *, stopped: Callable[[], bool]) -> None:
    """Plan every shard that waits for it: one of which no result came last, but a close, a failure or a threshold."""
    for job, start in _due(database):
        if stopped():
            return
        plan_shard(database, store, job, start)


def plan_shard(database: Database, store: Store, job: str, start: int) -> str:
    """Plan the next wave of a shard, or end its plan, if it is time. Returns the job's state. Raises StoreError."""
    while True:
        with database.connect() as connection:
            shard = _shard(connection, job, start)
        if isinstance(shard, str):
            return shard
        try:
            ready = _with_threshold(database, store, shard)
            if ready is None:
                return str(shard.job.state)
            seen = _seen(store, ready)
            wave = _next_wave(ready, seen)
            partial = None if wave is None else _partial(store, ready, wave)
        except ArtifactLost as error:
            return _fail(database, job, str(error))
        with database.begin() as connection:
            states.lock(connection, job)
            again = _shard(connection, job, start)
            if isinstance(again, str):
                state = again
            elif again.artifacts != shard.artifacts:  # a checkpoint failed meanwhile
                continue
            else:
                state = _commit(connection, ready, seen, wave, partial)
                partial = None
        if partial is not None:
            store.delete([partial.artifact])
        return state


# What is known of a shard


@dataclass(frozen=True, slots=True)
class _Shard:
    """A shard that is due, and the results that its plan rests on."""

    job: JobRow
    plan: TaskRow
    checkpoints: list[CheckpointRow]
    """Those that count, in order."""
    perplexity: dict[int, str]
    """Artifact by position."""
    draws: list[TaskRow]
    """In the order in which they were planned."""
    waves: int
    below: float = np.nan
    """Perplexity under which an example is memorized."""

    @property
    def artifacts(self) -> tuple[object, ...]:
        return tuple(self.perplexity.items()), tuple(draw.artifact for draw in self.draws)

    @property
    def samples(self) -> int:
        return int(self.job.request.sampling.samples)

    @property
    def full(self) -> bool:
        return bool(self.job.request.trajectory == "full")


@dataclass(frozen=True, slots=True)
class _Seen:
    memorized_CR: Bools
    known_R: Bools
    """False where a checkpoint skipped the row: it gets no score."""
    correct_CR: Ints
    drawn_CR: Ints


@dataclass(frozen=True, slots=True)
class _Wave:
    place: int
    """Of the checkpoint among those that count."""
    rows: list[int]
    goals: list[Goal]
    turn: int


@dataclass(frozen=True, slots=True)
class _Partial:
    artifact: str
    samples: int
    tokens: int


def _due(database: Database) -> Iterator[tuple[str, int]]:
    """Job and start of every shard whose plan waits for nobody else."""
    other = tasks.alias()
    outstanding = exists().where(
        other.c.job == tasks.c.job,
        other.c.start == tasks.c.start,
        other.c.kind.in_(SHARD_KINDS),
        other.c.state.in_(states.OUTSTANDING),
    )
    closed = select(jobs.c.id).where(jobs.c.open.is_(False), jobs.c.state.in_(states.ACTIVE))
    page = (
        select(tasks.c.job_number, tasks.c.start, tasks.c.job)
        .where(tasks.c.state == "queued", tasks.c.kind == PLAN, tasks.c.job.in_(closed), ~outstanding)
        .order_by(tasks.c.job_number, tasks.c.start)
        .limit(DUE_AT_ONCE)
    )
    after: tuple[int, int] = (-1, -1)
    while True:
        with database.connect() as connection:
            found = connection.execute(page.where(tuple_(tasks.c.job_number, tasks.c.start) > after)).all()
        for number, start, job in found:
            yield job, start
            after = (number, start)
        if len(found) < DUE_AT_ONCE:
            return


def _shard(connection: Connection, job: str, start: int) -> _Shard | str:
    """The job's state where it is not time to plan."""
    row = one_of(JobRow, connection, select(jobs).where(jobs.c.id == job))
    of_shard = select(tasks).where(tasks.c.job == job, tasks.c.start == start)
    every = all_of(TaskRow, connection, of_shard.order_by(tasks.c.checkpoint, tasks.c.variant))
    plan = next((task for task in every if task.kind == PLAN and task.state == "queued"), None)
    mine = [task for task in every if task.kind in SHARD_KINDS]
    waiting = any(task.state in states.OUTSTANDING for task in mine)
    if plan is None or waiting or row.open or row.state not in states.ACTIVE:
        return str(row.state)
    counting = select(checkpoints).where(checkpoints.c.job == job, checkpoints.c.error.is_(None))
    named = {one.position: one for one in all_of(CheckpointRow, connection, counting)}
    done = [task for task in mine if task.state == "completed" and task.checkpoint in named]
    perplexity = {task.checkpoint: task.result for task in done if task.kind == "perplexity"}
    draws = sorted((task for task in done if task.kind == "draw"), key=lambda task: int(task.variant))
    waves = max((int(task.variant) for task in mine if task.kind == "draw"), default=0)
    return _Shard(row, plan, [named[position] for position in sorted(perplexity)], perplexity, draws, waves)


def _with_threshold(database: Database, store: Store, shard: _Shard) -> _Shard | None:
    """The shard over the checkpoints that scored an example, and the job's threshold. None: not all of that is known."""
    job, counting = shard.job.id, []
    for checkpoint in shard.checkpoints:
        skipped = _skipped_everything(database, job, checkpoint.position)
        if skipped is None:
            return None
        counting += [] if skipped else [checkpoint]
    kept = {one.position: shard.perplexity[one.position] for one in counting}
    draws = [draw for draw in shard.draws if draw.checkpoint in kept]
    shard = replace(shard, checkpoints=counting, perplexity=kept, draws=draws)
    if shard.job.memorized_below is not None or not counting:
        return replace(shard, below=shard.job.memorized_below or np.nan)
    return _draw_threshold(database, store, shard)


def _skipped_everything(database: Database, job: str, position: int) -> bool | None:
    """Such a checkpoint is left out of the history. None: that cannot be said yet."""
    of_checkpoint = (tasks.c.job == job, tasks.c.checkpoint == position, tasks.c.kind == "perplexity")
    scored = exists().where(
        *of_checkpoint, tasks.c.state == "completed", tasks.c.skipped < tasks.c.stop - tasks.c.start
    )
    left = exists().where(*of_checkpoint, tasks.c.state.in_(states.OUTSTANDING))
    with database.connect() as connection:
        if connection.scalar(select(scored)):
            return False
        return None if connection.scalar(select(left)) else True


def _draw_threshold(database: Database, store: Store, shard: _Shard) -> _Shard | None:
    """From the first checkpoint's perplexities, once all of them are in."""
    job, first = shard.job.id, shard.checkpoints[0].position
    of_first = (tasks.c.job == job, tasks.c.checkpoint == first, tasks.c.kind == "perplexity")
    with database.connect() as connection:
        before = select(func.count()).where(
            tasks.c.job == job,
            tasks.c.checkpoint < first,
            tasks.c.kind == "perplexity",
            tasks.c.state.in_(states.OUTSTANDING),
        )
        results = connection.execute(select(tasks.c.state, tasks.c.artifact).where(*of_first)).all()
        if connection.scalar(before) or any(state != "completed" for state, _ in results):
            return None
    perplexities = [_read(store, artifact, ["perplexity"])["perplexity"] for _, artifact in results]
    values = pl.concat(perplexities).fill_null(np.nan).to_numpy()
    threshold = from_first_checkpoint(values)
    with database.begin() as connection:
        states.lock(connection, job)
        drawn = {"memorized_below": threshold.memorized_below, "threshold_source": threshold.source}
        connection.execute(update(jobs).where(jobs.c.id == job, jobs.c.memorized_below.is_(None)).values(drawn))
        below = connection.scalar(select(jobs.c.memorized_below).where(jobs.c.id == job))
    return replace(shard, below=float(below or threshold.memorized_below))


def _seen(store: Store, shard: _Shard) -> _Seen:
    start, stop = shard.plan.start, shard.plan.stop
    shape = (len(shard.checkpoints), stop - start)
    perplexity_CR = np.full(shape, np.nan)
    correct_CR, drawn_CR = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    places = {checkpoint.position: place for place, checkpoint in enumerate(shard.checkpoints)}
    for position, artifact in shard.perplexity.items():
        frame = _read(store, artifact, ["perplexity"])
        perplexity_CR[places[position]] = frame["perplexity"].fill_null(np.nan).to_numpy()
    for draw in shard.draws:
        frame = _read(store, draw.result, ["row", "verdicts"])
        at = (places[draw.checkpoint], frame["row"].to_numpy() - start)
        correct_CR[at] = frame["verdicts"].list.count_matches("right").to_numpy()
        drawn_CR[at] = frame["verdicts"].list.len().to_numpy()
    known_R = np.isfinite(perplexity_CR).all(axis=0)
    return _Seen(memorized(perplexity_CR, memorized_below=shard.below), np.asarray(known_R), correct_CR, drawn_CR)


def _read(store: Store, artifact: str, columns: list[str] | None = None) -> pl.DataFrame:
    with store.open(artifact) as content:
        return pl.read_parquet(content, columns=columns)


# What comes next


def _next_wave(shard: _Shard, seen: _Seen) -> _Wave | None:
    """None: nothing is left to draw."""
    if not shard.checkpoints:
        return None
    last = len(shard.checkpoints) - 1
    below = shard.job.request.below
    memorized_RC, correct_RC, drawn_RC = (
        table.T.tolist() for table in (seen.memorized_CR, seen.correct_CR, seen.drawn_CR)
    )
    waves: dict[tuple[int, int], list[tuple[int, Goal]]] = {}
    for r in np.flatnonzero(seen.known_R).tolist():
        goal = next_goal(
            memorized_RC[r], correct_RC[r], drawn_RC[r], samples=shard.samples, below=below, full=shard.full
        )
        if goal is None:
            continue
        if shard.full:
            turn = _FIRST_DRAWS + goal.checkpoint
        elif goal.checkpoint == last and memorized_RC[r][last]:
            turn = _CAPS
        else:
            turn = _FIRST_DRAWS + last - goal.checkpoint
        waves.setdefault((turn, goal.checkpoint), []).append((r, goal))
    if not waves:
        return None
    turn, place = min(waves)
    start = shard.plan.start
    return _Wave(place, [start + r for r, _ in waves[turn, place]], [goal for _, goal in waves[turn, place]], turn)


def _partial(store: Store, shard: _Shard, wave: _Wave) -> _Partial | None:
    """The answers of the wave's rows that are there already, as one result; None where there are none."""
    position = shard.checkpoints[wave.place].position
    artifacts = [draw.result for draw in shard.draws if draw.checkpoint == position]
    frames = [_read(store, artifact).filter(pl.col("row").is_in(wave.rows)) for artifact in artifacts]
    if not any(frame.height for frame in frames):
        return None
    known = pl.concat(frames).unique("row", keep="last", maintain_order=True).sort("row")
    out = io.BytesIO()
    # Answers of several tasks, of which nobody is said to have made all.
    known.write_parquet(out, compression="zstd", row_group_size=GROUP_ROWS, metadata=metadata({}))
    artifact = f"{PREFIX}{shard.job.id}/{uuid4().hex}.parquet"
    store.put(artifact, out.getvalue())
    return _Partial(artifact, int(known["verdicts"].list.len().sum()), int(known["tokens"].list.sum().sum()))


def _commit(connection: Connection, shard: _Shard, seen: _Seen, wave: _Wave | None, partial: _Partial | None) -> str:
    """In the transaction that holds the job: the next task of the shard, or the end of its plan."""
    at = now(connection)
    job = shard.job.id
    if wave is None:
        pairs = int(seen.known_R.sum()) * len(shard.checkpoints)
        saved = pairs * shard.samples - int(seen.drawn_CR[:, seen.known_R].sum())
        # Of a plan, `samples` are those that it saved.
        ended = {"state": "completed", "finished_at": at, "samples": saved}
        connection.execute(update(tasks).where(tasks.c.id == shard.plan.id).values(ended))
        return states.settle(connection, job, at=at)
    plan: dict[str, Any] = {
        "rows": wave.rows,
        "floor": [goal.floor for goal in wave.goals],
        "ceiling": [goal.ceiling for goal in wave.goals],
    }
    if partial is not None:
        plan["given"] = {"samples": partial.samples, "tokens": partial.tokens}
    task = new_task(
        shard.job,
        shard.checkpoints[wave.place].position,
        shard.checkpoints[wave.place].path,
        kind="draw",
        variant=shard.waves + 1,
        turn=wave.turn,
        plan=plan,
        partial=None if partial is None else partial.artifact,
        dataset=shard.plan.dataset,
        start=shard.plan.start,
        stop=shard.plan.stop,
    )
    connection.execute(insert(tasks), [task])
    return str(shard.job.state)


def _fail(database: Database, job: str, error: str) -> str:
    """A job of which a result is lost cannot go on."""
    log.error("planning failed", job=job, error=error)
    with database.begin() as connection:
        row = states.lock(connection, job)
        if row.state not in states.ACTIVE:
            return str(row.state)
        at = now(connection)
        states.end_tasks(
            connection, job, state="failed", error=error, at=at, where=and_(tasks.c.state.in_(states.OUTSTANDING))
        )
        connection.execute(update(jobs).where(jobs.c.id == job).values(state="failed", error=error, finished_at=at))
    return "failed"
