"""Where an export came from: asked for beside it, or inside of it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from sqlalchemy import Connection, select

from premem.wire.compatibility import VERSION
from premem.wire.curation import Group
from premem.wire.lineage import CheckpointLineage, ExportLineage
from premem_service.curation.selections import Chosen, Policy, PolicyGiven, choose, lineage
from premem_service.http.dependencies import DatabaseGiven
from premem_service.http.problems import described
from premem_service.queue.progress import moment
from premem_service.queue.states import completed
from premem_service.scores.score_files import ScoreFiles
from premem_service.storage.rows import CheckpointRow, DatasetRow, JobRow, all_of, one_of
from premem_service.storage.tables import checkpoints, datasets

router = APIRouter(prefix="/v1/jobs", tags=["examples"])


@router.get("/{job}/curated/lineage", responses=described(404, 409, 500))
def get_curated_lineage(
    job: str,
    request: Request,
    database: DatabaseGiven,
    asked: PolicyGiven,
    group: Annotated[Group, Query(description="What was chosen, or as many drawn at random, to compare.")] = "chosen",
) -> ExportLineage:
    """All that `…/curated` with the same query follows from: data set, checkpoints, policy, threshold, seed, versions.

    A Parquet export holds it in its metadata, under `premem.lineage`; JSONL has no place for it.
    """
    with database.connect() as connection:
        row = completed(connection, job)
        known = origin(connection, row)
    files: ScoreFiles = request.app.state.score_files
    return export_lineage(row, known, asked, choose(database, files, row, asked), group)


def beside(request: Request) -> str:
    """The path of an export's lineage, for the same choice; it needs no host, which a proxy may have changed."""
    same = [(name, value) for name, value in request.query_params.multi_items() if name != "format"]
    query = f"?{urlencode(same)}" if same else ""
    return f"{request.url.path}/lineage{query}"


def origin(connection: Connection, job: JobRow) -> dict[str, Any]:
    """What a job's scores follow from, as fields of an Origin."""
    request = job.request
    dataset = one_of(DatasetRow, connection, select(datasets).where(datasets.c.id == job.dataset))
    ordered = select(checkpoints).where(checkpoints.c.job == job.id).order_by(checkpoints.c.position)
    scored = {line.checkpoint for line in job.found.checkpoints}
    return {
        "dataset_name": dataset.name,
        "dataset_rows": dataset.rows,
        "checkpoints": [
            CheckpointLineage(name=row.name, path=row.path, weights=row.weights)
            for row in all_of(CheckpointRow, connection, ordered)
            if row.name in scored
        ],
        "test_dataset": job.test_dataset,
        "kind": job.kind,
        "parent": job.parent,
        "previous": request.previous,
        "recorded": job.recorded is not None,
        "sampling": request.sampling,
        "template": request.template,
        "grader": request.grader,
        "trajectory": request.trajectory,
        "only_below": request.below,
        "calibration": job.calibration,
        "produced_by": job.found.produced_by,
        "finished_at": None if job.finished_at is None else moment(job.finished_at),
        "premem": VERSION,
    }


def export_lineage(job: JobRow, known: dict[str, Any], policy: Policy, chosen: Chosen, group: Group) -> ExportLineage:
    return ExportLineage(
        **lineage(job, policy).model_dump(),
        **known,
        group=group,
        rows=len(chosen.positions(group)),
        qualified=chosen.selection.qualified,
        excluded=chosen.excluded,
        notes=chosen.notes,
        tie_order=job.found.tie_order,
    )
