"""Bodies about what a job will cost, and who is there to work (see wire.py)."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from premem.wire.bodies import Reply


class Between(Reply):
    """An amount that is known by its ends only."""

    low: float
    high: float


class WorkerReply(Reply):
    """A worker that asked for a task lately."""

    name: str
    engine: str | None = Field(description="Null: it only grades anew what others sampled.")
    device: str | None = Field(
        None,
        description="What it computes on, as its engine names it: cpu, or a GPU's model, one per worker. Null until it has "
        "loaded a checkpoint.",
    )
    seen_at: datetime


class Estimate(Reply):
    """What a job will cost, before it is posted."""

    tasks: int
    examples: int = Field(description="Of the training set.")
    checkpoints: int
    measured_by: str | None = Field(
        description="The job whose tasks gave lengths and pace; null: nothing was measured."
    )
    scored_tokens: float = Field(description="Prompts and references that are read for their perplexities.")
    answers: Between = Field(description="Sampled. How many are needed is known only once the perplexities are.")
    answer_tokens: Between
    engine_seconds: Between | None = Field(description="Of one engine; null: nothing was measured.")
    workers: int = Field(description="Connected now, with an engine.")
    seconds: Between | None = Field(
        description="With the workers that are connected; null: none is, or nothing was measured."
    )
    result_bytes: Between = Field(description="On the service's store.")
    weight_bytes: float | None = Field(description="Of the model in memory; null: nothing was measured.")
    cache_bytes: float | None = Field(
        None,
        description="Of memory for keys and values, beside the weights: what vLLM reserves as it is set, or transformers takes "
        "at most; null: nothing was measured, or the engine told none.",
    )
    notes: list[str] = Field(description="What the numbers rest on.")
