"""Bodies about calibrations, and about recorded runs, from which they can be made."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from premem.forecasting.rules import RuleName
from premem.wire.bodies import Body, GraderChoice, Name, Reply, Share
from premem.wire.jobs import CalibrationName, MemorizedBelow, Template


class CalibrationRequest(Body):
    """Learn a threshold from completed jobs of one model, task, grader and template that differ in learning rate."""

    name: CalibrationName
    jobs: list[Name] = Field(
        min_length=1, max_length=1000, description="Ids of at least two completed jobs, each with a test set."
    )
    rule: RuleName = Field("paper", description="What is averaged over the examples.")
    memorized_below: Annotated[float, Field(gt=1.0, le=1e6)] | None = Field(
        None, description="Perplexity, to learn how well it does. Absent: the one that explains these jobs best."
    )

    @field_validator("name")
    @classmethod
    def _is_no_id(cls, name: str) -> str:
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
    """What a calibration is valid for, and nothing else."""

    model: str = Field(description="Architecture and number of parameters.")
    task: str
    grader: str = Field(description="Name, version and options.")
    template: str = Field(description="Prompt and target, as JSON.")
    span: str = Field(description="Which tokens the perplexity averages over.")


class FitReply(Reply):
    """How well the forecasts fit the test accuracies."""

    r2_identity: float | None = Field(description="On the line y = x; null where the test accuracies do not differ.")
    r2_linear: float | None = Field(description="Of the best straight line.")
    mae: float = Field(description="Mean absolute error of the accuracy.")


class CalibrationPoint(Reply):
    """One checkpoint of one run: its forecast, and the test accuracy that it reached."""

    run: str
    checkpoint: str
    forecast: float
    test: float


class CalibrationReply(Reply):
    """A threshold, how well it explains its runs, and how well it forecasts runs that it was not learned from."""

    id: str
    name: str
    setting: SettingReply
    rule: str
    memorized_below: float
    jobs: list[str]
    fit: FitReply
    left_out: FitReply = Field(
        description="The fit where each run is forecast with the threshold learned from the others."
    )
    interval: tuple[float, float] = Field(description="90% interval of the threshold, by a bootstrap over runs.")
    r2_interval: tuple[float | None, float | None]
    band: tuple[float, float] | None = Field(description="Range of thresholds for which R² is 0.9 or more.")
    half_width: float = Field(description="Half the width of a forecast's 90% interval.")
    thresholds: list[float] = Field(description="Thresholds that were tried; `r2` has the R² of each.")
    r2: list[float | None]
    points: list[CalibrationPoint]
    warnings: list[str]
    created_at: datetime


class RecordedCheckpoint(Body):
    """One checkpoint of a recorded run."""

    name: Name
    test_accuracy: Share | None = None
    test_examples: int | None = Field(None, ge=1, lt=2**53)


class RecordedRun(Body):
    """A run that others scored: what its arrays do not say. It is sent in the metadata of their Parquet file."""

    dataset: Name = Field(description="Id of the uploaded data set that holds its questions.")
    checkpoints: list[RecordedCheckpoint] = Field(
        min_length=1, max_length=1000, description="In the order of training."
    )
    model: Name = Field(description="Architecture and number of parameters, such as LlamaForCausalLM 8.03B.")
    samples: int = Field(ge=1, le=1000, description="Answers per example and checkpoint.")
    name: str = Field("", max_length=200)
    task: str = Field("", max_length=200, description="Absent: the data set's name.")
    learning_rate: float | None = Field(None, gt=0.0, le=1e6)
    template: Template = Field(default_factory=Template)
    grader: GraderChoice = Field(default_factory=lambda: GraderChoice(name="authors"))
    span: Name = Field("as recorded", description="Which tokens the perplexity averages over.")
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
