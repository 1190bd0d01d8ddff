"""Bodies about the scored examples of a job, and the filters that select them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from pydantic import Field

from premem.extras import brought_by
from premem.records import Verdict
from premem.wire.bodies import Reply
from premem.wire.display import DisplayedReply
from premem.wire.jobs import ThresholdReply

if TYPE_CHECKING:
    import pandas
    import polars

Sort = Literal["rank", "mean_accuracy", "last_accuracy", "perplexity", "interval", "memorized_at", "row"]


class ExampleQuery(TypedDict, total=False):
    """Which examples of a job, and in which order. What is absent filters nothing."""

    above: float
    """Pre-memorization accuracy is at least this, from 0 to 1."""
    below: float
    """Pre-memorization accuracy is under this."""
    interval_above: float
    """The lower end of its 90% interval is at least this."""
    interval_below: float
    """The upper end of its 90% interval is under this."""
    perplexity_above: float
    """Perplexity of the reference at the last checkpoint is at least this."""
    perplexity_below: float
    """Perplexity of the reference at the last checkpoint is under this."""
    memorized: bool
    """True: memorized at some checkpoint; False: at none."""
    memorized_at: str
    """Name of the first checkpoint at which it was memorized."""
    search: str
    """The question contains this, in capitals or not."""
    tag: str
    """The row has this tag."""
    without_tag: str
    """The row does not have this tag."""
    sort: Sort
    """Absent: by rank."""
    order: Literal["ascending", "descending"]
    """Absent: ascending."""


def query_parameters(query: ExampleQuery) -> dict[str, str | float | None]:
    """As the URL has them: true and false in lower case."""
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in query.items()
        if value is None or isinstance(value, str | float | int)
    }


class IntervalReply(Reply):
    """A 90% interval."""

    low: float
    high: float


class ScoredExample(Reply):
    """One training example with its scores."""

    rank: int = Field(description="From 0, the lowest pre-memorization accuracy first.")
    row: int = Field(description="Position in the data set, from 0.")
    id: str
    question: str = Field(description="Its first 300 characters.")
    pre_memorization_accuracy: float
    mean_accuracy: float | None = Field(
        description="Over all checkpoints, memorized or not; null where not every answer was drawn."
    )
    accuracy: list[float | None] = Field(description="Per checkpoint; null where not every answer was drawn.")
    perplexity: list[float] = Field(description="Perplexity of the reference, per checkpoint.")
    memorized: list[bool] = Field(description="Per checkpoint.")
    interval: IntervalReply = Field(description="90% interval of the pre-memorization accuracy, which it contains.")
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
    tags: list[str] = Field(default_factory=list, description="Tags of its row in the data set, in alphabetical order.")


class ExamplePage(DisplayedReply):
    """One page of a job's scored examples."""

    repr_fields: ClassVar = ("items", "checkpoints", "total", "next_cursor")

    items: list[ScoredExample]
    checkpoints: list[str]
    threshold: ThresholdReply
    total: int
    next_cursor: str | None

    def to_polars(self) -> polars.DataFrame:
        """A polars data frame: a row per example, the fields of ScoredExample as columns, with lists per checkpoint."""
        with brought_by("frames"):
            import polars

        return polars.DataFrame([item.model_dump() for item in self.items], infer_schema_length=None)

    def to_pandas(self) -> pandas.DataFrame:
        """The same as a pandas data frame; premem does not install pandas."""
        import pandas

        return pandas.DataFrame([item.model_dump() for item in self.items])


class AnswerReply(Reply):
    """One sampled answer, graded."""

    text: str
    verdict: Verdict
    extracted: str | None
    tokens: int
    finished: bool
    similarity: float | None = Field(
        None, description="Similarity to the reference reasoning, by words: 1 is word for word."
    )


class CheckpointAnswers(Reply):
    """What one checkpoint did with an example."""

    checkpoint: str
    perplexity: float | None
    memorized: bool | None
    accuracy: float | None
    copied: float | None = Field(None, description="Share of the answers that reproduce the reference reasoning.")
    answers: list[AnswerReply]


class ExampleDetail(ScoredExample):
    """One example in full: its uploaded row, and every answer of every checkpoint."""

    question: str = Field(description="In full.")
    trace: str
    final_answer: str | None
    columns: dict[str, Any] = Field(description="The uploaded row, with all of its columns.")
    checkpoints: list[CheckpointAnswers]
    threshold: ThresholdReply
