"""What may be asked of the ranked examples (see wire.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from premem.records import Verdict
from premem.wire.jobs import ThresholdReply

if TYPE_CHECKING:
    import pandas
    import polars
from typing import TypedDict

from premem.wire.bodies import Reply

Sort = Literal["rank", "mean_accuracy", "last_accuracy", "perplexity", "interval", "memorized_at", "row"]


class Wanted(TypedDict, total=False):
    """Which examples, and in which order; what is absent filters nothing."""

    above: float
    """Score, inclusive."""
    below: float
    """Score, exclusive."""
    interval_above: float
    """The lower end of the score's 90% interval, inclusive."""
    interval_below: float
    """Its upper end, exclusive."""
    perplexity_above: float
    """Of the reference at the last checkpoint, inclusive."""
    perplexity_below: float
    """The same, exclusive."""
    memorized: bool
    """At some checkpoint, or at none."""
    memorized_at: str
    """Name of the first checkpoint at which it was."""
    search: str
    """Stands in the question, in capitals or not."""
    tag: str
    without_tag: str
    sort: Sort
    order: Literal["ascending", "descending"]


def asked_for(wanted: Wanted) -> dict[str, str | float | None]:
    """As the query has it."""
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in wanted.items()
        if value is None or isinstance(value, str | float | int)
    }


class IntervalReply(Reply):
    """Of 90%."""

    low: float
    high: float


class ScoredExample(Reply):
    rank: int = Field(description="From 0, the lowest pre-memorization accuracy first.")
    row: int = Field(description="Position in the data set, from 0.")
    id: str
    question: str = Field(description="Its first 300 characters.")
    pre_memorization_accuracy: float
    mean_accuracy: float | None = Field(
        description="Over all checkpoints, memorized or not; null where not every answer was drawn."
    )
    accuracy: list[float | None] = Field(description="Per checkpoint; null where not every answer was drawn.")
    perplexity: list[float] = Field(description="Of the reference, per checkpoint.")
    memorized: list[bool] = Field(description="Per checkpoint.")
    interval: IntervalReply = Field(description="Of the pre-memorization accuracy, which it contains.")
    last_accuracy: float | None = Field(
        None, description="At the last checkpoint, memorized or not; null where not every answer was drawn."
    )
    memorized_at: str | None = Field(None, description="The first checkpoint at which it was memorized.")
    copied: list[float | None] = Field(
        default_factory=list,
        description="Per checkpoint: the share of answers that reproduce the reference reasoning nearly word for word; null where the answers are not here.",
    )
    perturbed: list[float | None] = Field(
        default_factory=list,
        description="Accuracy at the last checkpoint under fresh draws: the baseline, then each perturbation of the job.",
    )
    tags: list[str] = Field(default_factory=list, description="What people said of its row in the data set, by name.")


class ExamplePage(Reply):
    items: list[ScoredExample]
    checkpoints: list[str]
    threshold: ThresholdReply
    total: int
    next_cursor: str | None

    def to_polars(self) -> polars.DataFrame:
        """A row per example, with the columns of ScoredExample; what is per checkpoint is a list."""
        import polars

        return polars.DataFrame([item.model_dump() for item in self.items], infer_schema_length=None)

    def to_pandas(self) -> pandas.DataFrame:
        """The same for pandas, which premem does not install."""
        import pandas

        return pandas.DataFrame([item.model_dump() for item in self.items])


class AnswerReply(Reply):
    text: str
    verdict: Verdict
    extracted: str | None
    tokens: int
    finished: bool
    similarity: float | None = Field(None, description="To the reference reasoning, by words: 1 is word for word.")


class CheckpointAnswers(Reply):
    checkpoint: str
    perplexity: float | None
    memorized: bool | None
    accuracy: float | None
    copied: float | None = Field(None, description="Share of the answers that reproduce the reference reasoning.")
    answers: list[AnswerReply]


class ExampleDetail(ScoredExample):
    question: str = Field(description="In full.")
    trace: str
    final_answer: str | None
    columns: dict[str, Any] = Field(description="The uploaded row, with all of its columns.")
    checkpoints: list[CheckpointAnswers]
    threshold: ThresholdReply
