"""Bodies about calibrations, and about the recorded runs that they can be made from (see wire.py)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from premem.forecasting.rules import RuleName
from premem.wire.bodies import Body, GraderChoice, Name, Reply, Share
from premem.wire.jobs import CalibrationName, MemorizedBelow, Template


class CalibrationRequest(Body):
    """Completed jobs that differ in learning rate, each with a test set, of one model, task, grader and template."""

    name: CalibrationName
    jobs: list[Name] = Field(min_length=1, max_length=1000, description="At least two.")
    rule: RuleName = Field("paper", description="What is averaged.")
    memorized_below: Annotated[float, Field(gt=1.0, le=1e6)] | None = Field(
        None, description="Perplexity, to learn what it explains. Absent: the one that explains these jobs best."
    )

    @field_validator("name")
    @classmethod
    def _no_id(cls, name: str) -> str:
        if name.startswith("cal_"):
            raise ValueError("must not begin with cal_, as ids do")
        return name

    @field_validator("jobs")
    @classmethod
    def _each_once(cls, jobs: list[str]) -> list[str]:
        twice = sorted({job for job in jobs if jobs.count(job) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is named twice: each run counts once")
        return jobs


class SettingReply(Reply):
    """What a calibration holds for, and nothing beyond."""

    model: str = Field(description="Architecture and number of parameters.")
    task: str
    grader: str = Field(description="Name, version and options.")
    template: str = Field(description="Prompt and target, as JSON.")
    span: str = Field(description="Which tokens the perplexity is taken over.")


class FitReply(Reply):
    r2_identity: float | None = Field(description="On the line y = x; null where the test accuracies do not differ.")
    r2_linear: float | None
    mae: float


class CalibrationPoint(Reply):
    run: str
    checkpoint: str
    forecast: float
    test: float


class CalibrationReply(Reply):
    """A threshold, what it explains, and what it would have said of runs that it had not seen."""

    id: str
    name: str
    setting: SettingReply
    rule: str
    memorized_below: float
    jobs: list[str]
    fit: FitReply
    left_out: FitReply = Field(description="Each run forecast with the threshold of the others.")
    interval: tuple[float, float] = Field(description="Of the threshold: 90%, bootstrap over runs.")
    r2_interval: tuple[float | None, float | None]
    band: tuple[float, float] | None = Field(description="Thresholds that keep R² at 0.9 or more.")
    half_width: float = Field(description="Of a forecast's 90% interval.")
    thresholds: list[float] = Field(description="The curve of R² against the threshold, beside `r2`.")
    r2: list[float | None]
    points: list[CalibrationPoint]
    warnings: list[str]
    created_at: datetime


# Runs that others recorded


class RecordedCheckpoint(Body):
    name: Name
    test_accuracy: Share | None = None
    test_examples: int | None = Field(None, ge=1, lt=2**53)


class RecordedRun(Body):
    """What is known of a recorded run beside its arrays; it travels in the metadata of their Parquet file."""

    dataset: Name = Field(description="Id of the uploaded data set that holds its questions.")
    checkpoints: list[RecordedCheckpoint] = Field(min_length=1, max_length=1000, description="In order.")
    model: Name = Field(description="Architecture and number of parameters, such as LlamaForCausalLM 8.03B.")
    samples: int = Field(ge=1, le=1000, description="Answers per example and checkpoint.")
    name: str = Field("", max_length=200)
    task: str = Field("", max_length=200, description="Absent: the data set's name.")
    learning_rate: float | None = Field(None, gt=0.0, le=1e6)
    template: Template = Field(default_factory=Template)
    grader: GraderChoice = Field(default_factory=lambda: GraderChoice(name="authors"))
    span: Name = Field("as recorded", description="Which tokens the perplexity was taken over.")
    memorized_below: MemorizedBelow | None = None
    calibration: CalibrationName | None = None

    @model_validator(mode="after")
    def _sound(self) -> RecordedRun:
        if self.calibration is not None and self.memorized_below is not None:
            raise ValueError("give memorized_below or a calibration, not both: a calibration brings its threshold")
        names = [checkpoint.name for checkpoint in self.checkpoints]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two checkpoints are named {twice[0]!r}: give each a name of its own")
        return self
