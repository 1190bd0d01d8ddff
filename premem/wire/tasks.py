"""Bodies about tasks: what workers lease, and how they report on it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field, field_validator

from premem.wire.bodies import Body, GraderChoice, Name, Reply
from premem.wire.jobs import Checkpoint, Perturbation, Sampling, Template


class LeaseRequest(Body):
    worker: Name = Field(description="Unique among the workers that run.")
    engine: Name | None = Field(
        None, description="Null: this worker has none, and only grades again what others sampled."
    )
    device: Name | None = Field(
        None, description="What its engine computes on, such as cpu; null until it has loaded a checkpoint."
    )
    loaded_checkpoint: str | None = Field(
        None, max_length=4096, description="Path of the checkpoint in memory: its tasks come first."
    )


class DrawPlan(Body):
    """The rows of a `draw` task, and what to find out about each (premem.method.planning.Goal)."""

    rows: list[int]
    floor: list[int]
    ceiling: list[int]


class LeasedTask(Reply):
    """A task, for as long as its lease lasts."""

    id: str
    job: str
    attempt: int = Field(description="The fencing token: heartbeat and result must carry it.")
    lease_seconds: float
    expires_at: datetime
    kind: TaskKind
    variant: int = Field(0, description="Of perturbed tasks: 0 is the fresh baseline, the others count perturbations.")
    perturbation: Perturbation | None = None
    regrade: bool = Field(False, description="True: regrade the answers of its `…/source`; no engine is needed.")
    plan: DrawPlan | None = None
    partial: bool = Field(
        False, description="True: `…/partial` holds the part that was computed before; only the rest is missing."
    )
    checkpoint: Checkpoint
    base: str | None = Field(
        None, description="Base model of the checkpoint, where it is a LoRA adapter and the job names one."
    )
    dataset: str
    start: int = Field(description="First row, counted from 0.")
    stop: int = Field(description="One past the last row.")
    sampling: Sampling
    template: Template
    grader: GraderChoice
    dtype: str | None
    tokenizer: str | None = Field(description="Fingerprint of the job's tokenizer, once the first result reports it.")
    weights: str | None = Field(
        None, description="Fingerprint of the checkpoint's weights, once its first result reports it."
    )


class AttemptBody(Body):
    attempt: int = Field(ge=1, lt=2**31)


class HeartbeatReply(Reply):
    expires_at: datetime
    cancelled: bool = Field(description="True: the job was cancelled; drop the task.")


class FailureReport(AttemptBody):
    error: str = Field(min_length=1, max_length=10_000)
    permanent: bool = Field(False, description="Trying again cannot help.")
    checkpoint: bool = Field(False, description="The fault lies in the checkpoint: all of its tasks fail.")

    @field_validator("error")
    @classmethod
    def _readable(cls, error: str) -> str:
        """Without NUL, which PostgreSQL cannot store: whatever a library printed, the failure must arrive."""
        return error.replace("\0", "\ufffd")


class ResultSummary(Reply):
    """A result that the service has accepted."""

    task: str
    attempt: int
    rows: int


TaskState = Literal["queued", "leased", "completed", "failed", "cancelled"]
TaskKind = Literal["train", "perplexity", "draw", "test", "perturbed", "embed"]
"""`train`: the reference's log-probability and sampled answers; `perplexity`: only the log-probability; `draw`: only
answers, of the examples that still need them; `test`: only answers, of test examples; `perturbed`: only answers, of
training examples under another prompt; `embed`: the mean hidden state of each prompt."""
ENGINE_HANGS = 75
"""Exit status (EX_TEMPFAIL) of a worker whose engine hangs and can only be stopped with it: start the worker again."""
