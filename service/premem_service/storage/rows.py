"""Rows of the tables as types: what a statement finds is built here, and nowhere else.

A kind of row has a field for every column that its statements select. Of statements over part of a table, over two of
them or over sums there is a kind of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self, TypeVar

from pydantic import Field, model_validator
from sqlalchemy import Connection, Executable

from premem.forecasting.thresholds import Basis
from premem.wire.bodies import GraderChoice
from premem.wire.jobs import JobKind, JobRequest, JobState, Trajectory
from premem.wire.reports import JobReport
from premem.wire.tasks import TaskKind


class Row:
    """What is read out of the database."""

    __slots__ = ()

    @classmethod
    def of(cls, columns: Mapping[Any, Any]) -> Self:
        return cls(**columns)


Kind = TypeVar("Kind", bound=Row)


def all_of(kind: type[Kind], connection: Connection, statement: Executable) -> list[Kind]:
    return [kind.of(columns) for columns in connection.execute(statement).mappings()]


def first_of(kind: type[Kind], connection: Connection, statement: Executable) -> Kind | None:
    """None: the statement finds nothing."""
    columns = connection.execute(statement).mappings().first()
    return None if columns is None else kind.of(columns)


def one_of(kind: type[Kind], connection: Connection, statement: Executable) -> Kind:
    """Of a statement that finds one row whatever happens."""
    return kind.of(connection.execute(statement).mappings().one())


class StoredRequest(JobRequest):
    """A JobRequest as it is kept: grader and trajectory filled in, its checkpoints in a table of their own."""

    grader: GraderChoice
    trajectory: Trajectory
    acquire: dict[str, Any] | None = Field(None, description="A Search; of jobs that acquire.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        """It was when it was posted."""
        return self


@dataclass(frozen=True, slots=True)
class JobRow(Row):
    id: str
    number: int
    name: str
    state: JobState
    open: bool
    dataset: str
    test_dataset: str | None
    request: StoredRequest
    memorized_below: float | None
    threshold_basis: Basis
    threshold_source: str
    tokenizer: str | None
    produced_by: dict[str, str] | None
    setting: dict[str, str]
    calibration: str | None
    kind: JobKind
    parent: str | None
    recorded: str | None
    scores_artifact: str | None
    report: JobReport | None
    warnings: list[str]
    error: str | None
    finalizing_until: float | None
    finalizing_attempts: int
    created_at: float
    started_at: float | None
    finished_at: float | None

    @classmethod
    def of(cls, columns: Mapping[Any, Any]) -> Self:
        request = StoredRequest.model_validate(columns["request"])
        report = None if columns["report"] is None else JobReport.model_validate(columns["report"])
        return cls(**{**columns, "request": request, "report": report})

    @property
    def scores(self) -> str:
        """Artifact of a completed job."""
        assert self.scores_artifact is not None  # noqa: S101
        return self.scores_artifact

    @property
    def found(self) -> JobReport:
        """Report of a completed job."""
        assert self.report is not None  # noqa: S101
        return self.report


@dataclass(frozen=True, slots=True)
class TaskRow(Row):
    id: str
    job: str
    job_number: int
    checkpoint: int
    checkpoint_path: str
    kind: TaskKind
    """Or `plan`, of which no worker hears."""
    variant: int
    turn: int
    plan: dict[str, Any] | None
    source: str | None
    partial: str | None
    dataset: str
    start: int
    stop: int
    state: str
    attempt: int
    failures: int
    losses: int
    worker: str | None
    leased_at: float | None
    expires_at: float | None
    finished_at: float | None
    error: str | None
    artifact: str | None
    skipped: int
    samples: int
    tokens: int
    prompt_tokens: int | None
    cached_tokens: int | None
    engine_seconds: float | None
    cache_bytes: int | None

    @property
    def leased_until(self) -> float:
        """Of a leased task."""
        assert self.expires_at is not None  # noqa: S101
        return self.expires_at

    @property
    def result(self) -> str:
        """Artifact of a completed task."""
        assert self.artifact is not None  # noqa: S101
        return self.artifact


@dataclass(frozen=True, slots=True)
class CheckpointRow(Row):
    job: str
    position: int
    name: str
    path: str
    weights: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class DatasetRow(Row):
    id: str
    name: str
    rows: int
    bytes: int
    columns: dict[str, str | None]
    grader: dict[str, Any]
    grader_reason: str | None
    ungradable: int
    ungradable_lines: list[dict[str, Any]]
    chats: int
    repaired: int
    created_at: float


@dataclass(frozen=True, slots=True)
class KeyRow(Row):
    id: str
    name: str
    sha256: str
    created_at: float
    revoked_at: float | None


@dataclass(frozen=True, slots=True)
class WorkerRow(Row):
    name: str
    engine: str | None
    device: str | None
    seen_at: float


@dataclass(frozen=True, slots=True)
class CalibrationRow(Row):
    id: str
    number: int
    name: str
    setting: dict[str, str]
    rule: str
    memorized_below: float
    jobs: list[str]
    result: dict[str, Any]
    created_at: float


@dataclass(frozen=True, slots=True)
class IdempotencyRow(Row):
    key: str
    scope: str
    request_sha256: str | None
    status: int | None
    headers: dict[str, str] | None
    body: str | None
    created_at: float


# Parts of the tables, and sums over them


class Sums(Row):
    """PostgreSQL's sums of whole numbers are decimals."""

    __slots__ = ()

    @classmethod
    def of(cls, columns: Mapping[Any, Any]) -> Self:
        return cls(**{name: int(value) if isinstance(value, Decimal) else value for name, value in columns.items()})


@dataclass(frozen=True, slots=True)
class ResultRow(Row):
    """A task of one checkpoint, and the artifact that it ended with."""

    kind: str
    state: str
    start: int
    stop: int
    artifact: str


@dataclass(frozen=True, slots=True)
class PerturbedRow(Row):
    """A completed task under a perturbation."""

    variant: int
    start: int
    stop: int
    artifact: str


@dataclass(frozen=True, slots=True)
class RegradedRow(Row):
    """A completed task that was graded anew."""

    kind: str
    start: int
    artifact: str
    source: str
    name: str
    """Of its checkpoint."""


@dataclass(frozen=True, slots=True)
class FailedRow(Row):
    """A task that failed alone."""

    checkpoint: int
    kind: str
    start: int
    stop: int
    error: str | None


@dataclass(frozen=True, slots=True)
class AttemptRow(Row):
    """Where a task stands."""

    attempt: int
    state: str


@dataclass(frozen=True, slots=True)
class TaskSums(Sums):
    """Over the tasks of one job, checkpoint, kind and state; null where none of them tells."""

    job: str
    checkpoint: int
    kind: str
    state: str
    tasks: int
    examples: int
    skipped: int
    samples: int
    tokens: int
    prompt_tokens: int | None
    cached_tokens: int | None
    engine_seconds: float | None
    timed_tokens: int


@dataclass(frozen=True, slots=True)
class PaceSums(Sums):
    """Over the completed tasks of one job and kind; null where none of them tells."""

    kind: str
    prompt_tokens: int | None
    seconds: float | None
    samples: int
    tokens: int
    rows: int
    cache_bytes: int | None
