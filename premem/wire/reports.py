"""Bodies of a job's report."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from premem.forecasting.thresholds import NEEDS_CALIBRATION
from premem.records import Verdict
from premem.wire.bodies import Body, GraderChoice, Reply
from premem.wire.curation import TraitReply
from premem.wire.display import DisplayedReply
from premem.wire.examples import IntervalReply
from premem.wire.jobs import JobState, ThresholdReply


class ForecastReply(Reply):
    """Test accuracy, forecast from the training examples alone, with a 90% interval."""

    accuracy: float
    low: float
    high: float


class CheckpointReport(Reply):
    """One checkpoint's line of a report; accuracies are means over its examples."""

    checkpoint: str
    examples: int = Field(description="Scored examples of the training set.")
    train_accuracy: float | None = Field(description="Null where not every answer was drawn.")
    memorized: float = Field(description="Share of the examples that are memorized.")
    pre_memorization_accuracy: float | None = Field(
        description="Null where not every answer that it needs was drawn (`trajectory`)."
    )
    test_accuracy: float | None
    test_examples: int | None
    forecast: ForecastReply | None = Field(None, description="Null where it is refused.")
    copied: float | None = Field(
        None, description="Share of the answers that reproduce the reference reasoning; null where they are not here."
    )


class DropReply(Reply):
    """Accuracy lost by the examples of one band of pre-memorization accuracy."""

    low: float
    high: float = Field(description="Exclusive, but for 1.")
    examples: int
    baseline: float | None = Field(description="Mean accuracy of the fresh, unperturbed answers; null: no example.")
    drop: float | None = Field(description="Baseline minus accuracy under the perturbation.")
    interval: IntervalReply | None = Field(description="90% interval of the drop, by a paired bootstrap over examples.")


class RobustnessReply(Reply):
    """What one perturbation of the prompts costs at the last checkpoint."""

    perturbation: str
    overall: DropReply
    bands: list[DropReply]


class VerdictCount(Reply):
    """How many answers went from one verdict to another."""

    before: Verdict
    after: Verdict
    answers: int


class DisagreementReply(Reply):
    """One answer that two graders grade differently."""

    checkpoint: str
    kind: str = Field(description="Of its row: train, test or perturbed.")
    row: int
    sample: int
    text: str = Field(description="Its last 300 characters.")
    before: Verdict
    before_extracted: str | None
    after: Verdict
    after_extracted: str | None


class RegradeReply(Reply):
    """Where the new grader disagrees with the previous one about the same answers."""

    of: str = Field(description="The job whose answers were regraded.")
    before: GraderChoice
    after: GraderChoice
    answers: int
    disagreements: int = Field(description="Answers whose verdict changed.")
    table: list[VerdictCount]
    examples: list[DisagreementReply] = Field(description="The first 20.")


class ChangesReply(Reply):
    """What changed since the previous round: the same examples then and now, and the added ones."""

    previous: str = Field(description="The job of that round.")
    kept: int = Field(description="Examples in both data sets, recognized by question and trace, with a score in both.")
    added: int
    dropped: int
    kept_before: float | None = Field(description="Mean pre-memorization accuracy of the kept ones, then.")
    kept_after: float | None
    change: IntervalReply | None = Field(
        description="90% interval of the mean change, by a paired bootstrap over examples."
    )
    low_before: int = Field(description="Of the kept examples, how many were under 0.5 then.")
    low_solved: int = Field(description="Of these, how many are 0.5 or more now.")
    added_score: float | None = Field(description="Mean pre-memorization accuracy of the added ones.")
    test_before: float | None = Field(
        description="Test accuracy of the last checkpoint; null: other test sets, or none."
    )
    test_after: float | None
    notes: list[str] = Field(description="What else differs between the two jobs, so that it may be the cause.")


class LowReply(Reply):
    """The examples that the model could not solve before it memorized them."""

    below: float = Field(description="Pre-memorization accuracy, exclusive.")
    examples: int
    traits: list[TraitReply] = Field(description="What they have in common against the rest, the largest effect first.")
    notes: list[str]


class JobReport(DisplayedReply):
    """A job's report: per checkpoint what was solved and what was memorized, and what that rests on."""

    repr_fields: ClassVar = ("job", "dataset", "rule", "checkpoints", "skipped", "warnings")

    job: str
    dataset: str
    threshold: ThresholdReply
    rule: str = Field("paper", description="What the column of pre-memorization accuracies averages.")
    calibration: str | None = Field(None, description="Id of the calibration that the threshold comes from.")
    forecast_refused: str | None = Field(
        NEEDS_CALIBRATION, description="Why there is no forecast; null where there is one."
    )
    tie_order: list[str]
    checkpoints: list[CheckpointReport]
    skipped: int = Field(description="Training examples without a score.")
    skipped_reasons: dict[str, int]
    warnings: list[str]
    produced_by: dict[str, str] = Field(description="Engine, versions and dtype.")
    low: LowReply
    robustness: list[RobustnessReply] = Field(default_factory=list)
    regrade: RegradeReply | None = None
    changes: ChangesReply | None = None


class SoFar(Reply):
    """The table of a job's report, for the checkpoints that are completely scored."""

    job: str
    state: JobState
    threshold: ThresholdReply
    checkpoints: list[CheckpointReport]


class RegradeRequest(Body):
    """Grade the stored answers of a completed job with another grader."""

    grader: GraderChoice
    name: str = Field("", max_length=200, description="Absent: the job's own name.")


class ResampleRequest(Body):
    """Draw more answers for a completed job."""

    samples: int = Field(ge=2, le=1000, description="Answers per example and checkpoint, including those there are.")
    name: str = Field("", max_length=200, description="Absent: the job's own name.")
