"""Bodies of the task routes: what workers lease and hand in (see wire.py)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

if TYPE_CHECKING:
    pass


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
    """Of a `draw` task: which rows, and what is to be known of each (premem.method.planning.Goal)."""

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
    regrade: bool = Field(False, description="True: grade the answers of its `…/source` anew; no engine is needed.")
    plan: DrawPlan | None = None
    partial: bool = Field(
        False, description="True: `…/partial` holds what is known already; only the rest is to be computed."
    )
    checkpoint: Checkpoint
    base: str | None = Field(None, description="Of the checkpoint, where it is a LoRA adapter and the job names one.")
    dataset: str
    start: int = Field(description="First row, counted from 0.")
    stop: int = Field(description="One past the last row.")
    sampling: Sampling
    template: Template
    grader: GraderChoice
    dtype: str | None
    tokenizer: str | None = Field(description="Fingerprint of the job's tokenizer, once the first result told it.")
    weights: str | None = Field(
        None, description="Fingerprint of the checkpoint's weights, once its first result told it."
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
        """Whatever a library printed: a failure must be told."""
        return error.replace("\0", "\ufffd")


class ResultSummary(Reply):
    """What the service says of a result that it has taken."""

    task: str
    attempt: int
    rows: int


TaskState = Literal["queued", "leased", "completed", "failed", "cancelled"]
TaskKind = Literal["train", "perplexity", "draw", "test", "perturbed", "embed"]
"""`train`: the reference's log-probability and sampled answers; `perplexity`: the first of these alone, `draw`: the second
for the examples that still need them; `test`: sampled answers only; `perturbed`: the same for training examples under
another prompt; `embed`: the mean hidden state of each prompt."""
ENGINE_HANGS = 75
"""Exit status of a worker whose engine hangs in a way that only its end can end: start it again (EX_TEMPFAIL)."""
