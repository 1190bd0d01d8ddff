"""Bodies about lineage: what exported rows and weights follow from."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from premem.wire.bodies import GraderChoice, Reply
from premem.wire.curation import Group, Lineage
from premem.wire.jobs import JobKind, Sampling, Template, ThresholdReply

LINEAGE_KEY = "premem.lineage"
"""Key in the metadata of a Parquet file, of an ExportLineage or a WeightsLineage as JSON."""


class CheckpointLineage(Reply):
    """One checkpoint, and its weights."""

    name: str
    path: str
    weights: str | None = Field(None, description="Fingerprint of the weights; null where no worker reported it.")


class Origin(Reply):
    """What a job's scores follow from."""

    dataset_name: str
    dataset_rows: int
    test_dataset: str | None
    kind: JobKind
    parent: str | None = Field(description="The job that this one regrades, or draws more answers for.")
    previous: str | None = Field(description="The job of the previous round.")
    recorded: bool = Field(description="Scored by others, and imported.")
    checkpoints: list[CheckpointLineage] = Field(description="In the order of training.")
    sampling: Sampling
    template: Template
    grader: GraderChoice
    trajectory: str
    only_below: float | None = Field(description="The job found out only whether scores are under this.")
    calibration: str | None = Field(description="Id of the calibration that the threshold comes from.")
    produced_by: dict[str, str] = Field(description="Engine, versions, dtype, tokenizer's fingerprint, model's family.")
    finished_at: datetime | None
    premem: str = Field(description="Version of the service that exported it.")


class ExportLineage(Origin, Lineage):
    """All that exported rows follow from: the same again gives the same rows in the same order."""

    group: Group
    rows: int = Field(description="How many were exported.")
    qualified: int = Field(description="How many the policy would have chosen without a budget.")
    excluded: int = Field(
        description="Scored examples that were tagged `excluded` at the time, which no policy chooses."
    )
    notes: list[str] = Field(description="What to know about the choice.")
    tie_order: list[str]


class WeightsLineage(Origin):
    """All that sampling weights follow from: the same again gives the same weights."""

    job: str
    dataset: str
    threshold: ThresholdReply
    floor: float = Field(description="The least that 1 - score counted as.")
    rows: int = Field(description="How many were exported: those of the data set.")
    unscored: int = Field(description="Of these, rows without a score, which have the mean weight.")
    excluded: int = Field(description="Rows that were tagged `excluded` at the time, whose weight is 0.")
