"""Sampling weights: what a `WeightedRandomSampler` draws the next epoch by."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic_core import to_json

from premem.curation.policies import sampling_weights
from premem.wire.lineage import LINEAGE_KEY, WeightsLineage
from premem.wire.tags import EXCLUDED
from premem_service.curation.curated import MEDIA_TYPES
from premem_service.curation.lineages import beside, origin
from premem_service.datasets.reading import read_columns
from premem_service.datasets.tags import rows_with
from premem_service.http.dependencies import DatabaseGiven, StoreGiven
from premem_service.http.problems import described
from premem_service.queue.progress import threshold_reply
from premem_service.queue.states import completed
from premem_service.scores.score_files import ScoreFiles
from premem_service.storage.db import Database
from premem_service.storage.store import Store

ROWS_AT_ONCE = 8_192
Floor = Annotated[float, Query(gt=0.0, le=1.0, description="The least that 1 - score counts as.")]

router = APIRouter(prefix="/v1/jobs", tags=["examples"])


@router.get(
    "/{job}/weights",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "`row`, `id` and `weight` of every row of the data set, in its order.",
            "headers": {
                "X-Premem-Rows": {"description": "How many rows follow.", "schema": {"type": "integer"}},
                "X-Premem-Excluded": {
                    "description": "How many weigh nothing because they are tagged `excluded`.",
                    "schema": {"type": "integer"},
                },
                "Link": {
                    "description": 'Where its lineage is, `rel="describedby"`. Parquet has it in its metadata, too.',
                    "schema": {"type": "string"},
                },
            },
            "content": {
                media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in MEDIA_TYPES.values()
            },
        },
        **described(404, 409, 500),
    },
)
def get_weights(
    job: str,
    request: Request,
    database: DatabaseGiven,
    store: StoreGiven,
    floor: Floor = 0.1,
    format: Annotated[Literal["jsonl", "parquet"], Query()] = "jsonl",  # noqa: A002  (the query's name)
) -> Response:
    """Weights that sum to 1 and favour what the model could not solve: 1 - score, and never under the floor of that.

    A row without a score (skipped, or not trained on) gets the mean weight: it is neither favoured nor lost. One that is
    tagged `excluded` weighs 0.
    """
    found = _weigh(request.app.state.score_files, database, store, job, floor)
    headers = {
        "X-Premem-Rows": str(found.lineage.rows),
        "X-Premem-Excluded": str(found.lineage.excluded),
        "Link": f'<{beside(request)}>; rel="describedby"',
        "Content-Disposition": f'attachment; filename="weights-{job}.{format}"',
    }
    if format == "parquet":
        out = io.BytesIO()
        table = found.table.replace_schema_metadata({LINEAGE_KEY: found.lineage.model_dump_json()})
        pq.write_table(table, out, compression="zstd")
        return Response(out.getvalue(), media_type=MEDIA_TYPES[format], headers=headers)
    return StreamingResponse(_lines(found.table), media_type=MEDIA_TYPES[format], headers=headers)


@router.get("/{job}/weights/lineage", responses=described(404, 409, 500))
def get_weights_lineage(
    job: str, request: Request, database: DatabaseGiven, store: StoreGiven, floor: Floor = 0.1
) -> WeightsLineage:
    """All that `…/weights` with the same floor follows from: data set, checkpoints, threshold, settings, versions.

    A Parquet export holds it in its metadata, under `premem.lineage`; JSONL has no place for it.
    """
    return _weigh(request.app.state.score_files, database, store, job, floor).lineage


@dataclass(frozen=True, slots=True)
class _Weighed:
    table: pa.Table
    """`row`, `id` and `weight` of every row of the data set, in its order."""
    lineage: WeightsLineage


def _weigh(files: ScoreFiles, database: Database, store: Store, job: str, floor: float) -> _Weighed:
    """Raises NotFound, Conflict until the job is completed, ArtifactLost, StoreError."""
    with database.connect() as connection:
        row = completed(connection, job)
        known = origin(connection, row)
        excluded = rows_with(connection, row.dataset, EXCLUDED)
    with files.open(row.scores) as scores:
        scored = scores.columns("row", "score")
    ids = pa.concat_tables(list(read_columns(database, store, row.dataset, "id")))["id"]
    score_E = np.full(len(ids), np.nan)
    score_E[scored["row"].to_numpy()] = scored["score"].to_numpy()
    kept_E = np.ones(len(ids), dtype=bool)
    kept_E[excluded] = False
    weight_E = np.zeros(len(ids))
    weight_E[kept_E] = sampling_weights(score_E[kept_E], floor=floor)
    lineage = WeightsLineage(
        job=row.id,
        dataset=row.dataset,
        threshold=threshold_reply(row),
        **known,
        floor=floor,
        rows=len(ids),
        unscored=int(np.isnan(score_E[kept_E]).sum()),
        excluded=len(excluded),
    )
    return _Weighed(pa.table({"row": np.arange(len(ids)), "id": ids, "weight": pa.array(weight_E)}), lineage)


def _lines(table: pa.Table) -> Iterator[bytes]:
    for first in range(0, table.num_rows, ROWS_AT_ONCE):
        yield b"".join(to_json(record) + b"\n" for record in table.slice(first, ROWS_AT_ONCE).to_pylist())
