"""Seeds: the low examples as requests for new ones, in a file that an OpenAI-compatible batch endpoint takes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from premem.curation.acquisition import seed_requests
from premem_service.curation.curated import MEDIA_TYPES
from premem_service.curation.selections import PolicyGiven, choose
from premem_service.http.dependencies import DatabaseGiven, StoreGiven
from premem_service.http.problems import described
from premem_service.queue.states import completed
from premem_service.scores.score_files import ScoreFiles
from premem_service.scores.traits import examples_at

MOST_REQUESTS = 50_000
"""Of one batch, at OpenAI's and at those that follow it."""
LEAST_WEIGHT = 0.1
"""An example that was solved after all is still a seed where a policy chose it."""

router = APIRouter(prefix="/v1/jobs", tags=["examples"])


@router.get(
    "/{job}/seeds",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One request per line, of the form of OpenAI's batches.",
            "headers": {"X-Premem-Rows": {"description": "How many lines follow.", "schema": {"type": "integer"}}},
            "content": {MEDIA_TYPES["jsonl"]: {"schema": {"type": "string", "format": "binary"}}},
        },
        **described(404, 409, 500),
    },
)
def get_seeds(
    job: str,
    request: Request,
    database: DatabaseGiven,
    store: StoreGiven,
    asked: PolicyGiven,
    model: Annotated[str, Query(min_length=1, max_length=200, description="Writes the new examples.")],
    requests: Annotated[
        int, Query(ge=1, le=MOST_REQUESTS, description="How many; dealt out by 1 - score among the chosen.")
    ] = 100,
    instruction: Annotated[
        str | None, Query(min_length=1, max_length=10_000, description="The system's message; absent: premem's own.")
    ] = None,
) -> StreamingResponse:
    """Requests for new examples that need the skills of those that a policy chooses, the most for the lowest scores."""
    with database.connect() as connection:
        row = completed(connection, job)
    files: ScoreFiles = request.app.state.score_files
    chosen = choose(database, files, row, asked)
    # No more examples than there are requests: the others need not be read.
    positions = chosen.selection.positions[:requests]
    low = examples_at(database, store, row.dataset, chosen.row_E[positions])
    weights = np.maximum(1 - chosen.score_E[positions], LEAST_WEIGHT)
    lines = seed_requests(low, weights.tolist(), requests=requests, model=model, instruction=instruction)
    first = next(lines)  # what is wrong is said before the stream begins
    return StreamingResponse(
        _encoded(chain([first], lines)),
        media_type=MEDIA_TYPES["jsonl"],
        headers={
            "X-Premem-Rows": str(requests),
            "Content-Disposition": f'attachment; filename="seeds-{job}.jsonl"',
        },
    )


def _encoded(lines: Iterator[str]) -> Iterator[bytes]:
    for line in lines:
        yield line.encode() + b"\n"
