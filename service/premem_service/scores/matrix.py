"""All accuracies and perplexities of a job in one body, from which the page ranks anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from premem.payloads.matrix import ScoreMatrix
from premem_service.http.dependencies import DatabaseGiven
from premem_service.http.problems import described
from premem_service.queue.states import completed
from premem_service.scores.score_files import ScoreFiles

router = APIRouter(prefix="/v1/jobs", tags=["examples"])


class MatrixResponse(Response):
    media_type = "application/octet-stream"


BINARY: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.get("/{job}/matrix", response_class=MatrixResponse, responses={**BINARY, **described(404, 409, 500)})
def get_matrix(job: str, request: Request, database: DatabaseGiven) -> MatrixResponse:
    """Every accuracy and perplexity, for ranking anew under another threshold without a new job.

    Little-endian, C checkpoints in the report's order and E examples from the lowest score to the highest: uint32 C,
    uint32 E, uint32 row (E), float32 score (E), float32 accuracy (C × E), float32 perplexity (C × E). NaN: not every answer
    was drawn, and then only the score under the job's own threshold is known.
    """
    with database.connect() as connection:
        row = completed(connection, job)
    files: ScoreFiles = request.app.state.score_files
    with files.open(row.scores) as scores:
        table = scores.columns("row", "score", "accuracy", "perplexity")
    accuracy_CE, perplexity_CE = (_transposed(table[name]) for name in ("accuracy", "perplexity"))
    row_E, score_E = table["row"].to_numpy().astype(np.uint32), table["score"].to_numpy().astype(np.float32)
    return MatrixResponse(ScoreMatrix(row_E, score_E, accuracy_CE, perplexity_CE).encode())


def _transposed(lists: pa.ChunkedArray) -> NDArray[np.float32]:
    values = lists.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    value_CE: NDArray[np.float32] = values.reshape(len(lists), -1).T
    return value_CE
