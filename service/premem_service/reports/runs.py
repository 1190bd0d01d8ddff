"""A completed job as arrays, and what a calibration would have to share with it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from premem.errors import Conflict
from premem.forecasting.forecast import SPAN, Setting
from premem.forecasting.runs import Floats, ScoredRun
from premem.grading import get_grader
from premem.wire.bodies import GraderChoice
from premem.wire.jobs import Template
from premem_service.queue.states import is_planned
from premem_service.scores.score_files import ScoreFiles
from premem_service.storage.rows import JobRow

UNKNOWN_MODEL = "the results of job {job} do not say which model made them: score it again with workers that say so"


def setting_parts(*, task: str, grader: GraderChoice, template: Template, span: str = SPAN) -> dict[str, str]:
    """All of a job's Setting that is known when it is posted: the model is told by its results.

    Raises GraderError.
    """
    options = f" {json.dumps(grader.options, sort_keys=True)}" if grader.options else ""
    return {
        "task": task,
        "grader": f"{grader.name} {get_grader(grader).version}{options}",
        "template": template.model_dump_json(),
        "span": span,
    }


def setting_of(job: JobRow) -> Setting | None:
    """Of a completed job. None: its results do not say which model made them."""
    model = job.found.produced_by["model"]
    return Setting(model=model, **job.setting) if model else None


def scored_run(files: ScoreFiles, job: JobRow) -> ScoredRun:
    """The examples that have a score, in the order of the data set. Raises Conflict, ArtifactLost, StoreError."""
    if is_planned(job):
        raise Conflict(
            f"job {job.id} drew only what its scores needed under its own threshold (trajectory "
            f"{job.request.trajectory}): score with the trajectory 'everything' to look at it under another"
        )
    with files.open(job.scores) as scores:
        table = scores.columns("row", "accuracy", "perplexity")
    row_E = table["row"].to_numpy()
    order = np.argsort(row_E)
    return ScoredRun(
        name=job.name or job.id,
        checkpoints=tuple(line.checkpoint for line in job.found.checkpoints),
        accuracy_CE=_per_checkpoint(table["accuracy"], len(order))[:, order],
        perplexity_CE=_per_checkpoint(table["perplexity"], len(order))[:, order],
        samples=job.request.sampling.samples,
        test_accuracy_C=np.array(
            [np.nan if line.test_accuracy is None else line.test_accuracy for line in job.found.checkpoints]
        ),
        learning_rate=job.request.learning_rate,
        row_E=row_E[order],
    )


def _per_checkpoint(lists: Any, examples: int) -> Floats:
    values: Floats = lists.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(examples, -1).T
    return values
