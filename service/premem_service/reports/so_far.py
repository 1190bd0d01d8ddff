"""What a job that has not ended has found so far: its table of checkpoints, before there is a ranking."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from fastapi import APIRouter
from sqlalchemy import select

from premem.errors import Conflict, NotFound
from premem.wire.reports import JobReport, SoFar
from premem_service.http.dependencies import DatabaseGiven, StoreGiven
from premem_service.http.problems import described
from premem_service.queue.progress import threshold_reply
from premem_service.scores.observations import (
    checkpoint_reports,
    completed_results,
    read,
    threshold_of_history,
    trajectory_scores,
)
from premem_service.storage.rows import JobRow, first_of
from premem_service.storage.tables import datasets, jobs

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get("/{job}/so-far", responses=described(404, 409, 500))
def get_so_far(job: str, database: DatabaseGiven, store: StoreGiven) -> SoFar:
    """The checkpoints that are wholly scored, in order, while others still wait or are still to come.

    A threshold that is to be taken from the first checkpoint is taken from the first that is done. Of a completed job
    it is the report's table.
    """
    with database.connect() as connection:
        row = first_of(JobRow, connection, select(jobs).where(jobs.c.id == job))
        if row is None:
            raise NotFound(f"there is no job {job}")
        if row.kind == "acquire":
            raise Conflict(f"job {job} acquires examples and scores none; it has `…/candidates`")
        if row.report is not None:
            report = JobReport.model_validate(row.report)
            return SoFar(job=job, state=row.state, threshold=report.threshold, checkpoints=report.checkpoints)
        results = completed_results(connection, job)
        examples = connection.scalar(select(datasets.c.rows).where(datasets.c.id == row.dataset)) or 0
    nothing = SoFar(job=job, state=row.state, threshold=threshold_reply(row), checkpoints=[])
    if not results:
        return nothing
    seen = read(
        store,
        results,
        examples=examples,
        samples=row.request.sampling.samples,
        copied_from=row.request.copied_from,
        check=lambda: None,
    ).scored_only()
    if not seen.names:
        return nothing
    threshold = threshold_of_history(row, seen)
    trajectory = row.request.trajectory
    scores_CE = trajectory_scores(seen, memorized_below=threshold.memorized_below, trajectory=trajectory)
    if trajectory != "everything":  # what was drawn so far says of no score what it will be
        scores_CE[:] = np.nan
    elif np.isnan(scores_CE).all(axis=1).any():  # no example has a score at every checkpoint
        return nothing
    drawn = replace(row, memorized_below=threshold.memorized_below, threshold_source=threshold.source)
    return SoFar(
        job=job,
        state=row.state,
        threshold=threshold_reply(drawn),
        checkpoints=checkpoint_reports(seen, scores_CE, memorized_below=threshold.memorized_below),
    )
