"""Bodies about what a job will cost, and about the workers that are connected."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from premem.wire.bodies import Reply


class Between(Reply):
    """An amount of which only the ends are known."""

    low: float
    high: float


class WorkerReply(Reply):
    """A worker that has a task, or asked for one within the last minute."""

    name: str
    engine: str | None = Field(description="Null: it only regrades what others sampled.")
    device: str | None = Field(
        None,
        description="What it computes on, as its engine names it: cpu, or a GPU's model, one per worker. Null until it has "
        "loaded a checkpoint.",
    )
    seen_at: datetime


class Estimate(Reply):
    """What a job will cost, before it is created."""

    tasks: int
    examples: int = Field(description="Examples of the training set.")
    checkpoints: int
    measured_by: str | None = Field(
        description="The job whose tasks gave lengths and pace; null: nothing was measured."
    )
    scored_tokens: float = Field(description="Tokens of prompts and references, which are read for the perplexities.")
    answers: Between = Field(
        description="Answers to sample. How many are needed is known only once the perplexities are."
    )
    answer_tokens: Between
    engine_seconds: Between | None = Field(description="Seconds of one engine; null: nothing was measured.")
    workers: int = Field(description="Workers with an engine that are connected now.")
    seconds: Between | None = Field(
        description="Seconds with the connected workers; null: none is connected, or nothing was measured."
    )
    result_bytes: Between = Field(description="Bytes on the service's store.")
    weight_bytes: float | None = Field(description="Bytes of memory for the weights; null: nothing was measured.")
    cache_bytes: float | None = Field(
        None,
        description="Bytes of memory for keys and values, in addition to the weights: what vLLM reserves, or the most that "
        "transformers takes; null: nothing was measured, or the engine reported none.",
    )
    notes: list[str] = Field(description="What the numbers are based on.")
