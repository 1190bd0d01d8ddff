"""The curated subset: the uploaded rows that a policy chooses, best first, or the control beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from premem.wire.curation import Group
from premem_service.curation.lineages import beside, export_lineage, origin
from premem_service.curation.selections import PolicyGiven, choose
from premem_service.curation.subset import Subset
from premem_service.datasets.tags import all_tags
from premem_service.http.dependencies import DatabaseGiven, StoreGiven
from premem_service.http.problems import described
from premem_service.queue.states import completed
from premem_service.scores.score_files import ScoreFiles

MEDIA_TYPES = {"jsonl": "application/jsonl", "parquet": "application/vnd.apache.parquet"}

router = APIRouter(prefix="/v1/jobs", tags=["examples"])


@router.get(
    "/{job}/curated",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One row per line (or a Parquet file), each as it was uploaded with an added `premem`.",
            "headers": {
                "X-Premem-Rows": {"description": "How many rows follow.", "schema": {"type": "integer"}},
                "X-Premem-Qualified": {
                    "description": "How many the policy would have chosen without a budget.",
                    "schema": {"type": "integer"},
                },
                "X-Premem-Excluded": {
                    "description": "Scored examples that are left out because they are tagged `excluded`.",
                    "schema": {"type": "integer"},
                },
                "X-Premem-Notes": {
                    "description": "What is to be known about the choice; absent where there is nothing.",
                    "schema": {"type": "string"},
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
        **described(404, 409, 507),
    },
)
def get_curated(
    job: str,
    request: Request,
    database: DatabaseGiven,
    store: StoreGiven,
    asked: PolicyGiven,
    group: Annotated[Group, Query(description="What was chosen, or as many drawn at random, to compare.")] = "chosen",
    format: Annotated[Literal["jsonl", "parquet"], Query()] = "jsonl",  # noqa: A002  (the query's name)
) -> StreamingResponse:
    """The rows that the model could not solve before it memorized them: where the next data helps most.

    Another policy chooses others, and `group=control` gives the random control of the same size (`…/selection` lists both).
    Everything is read and checked before the first byte is sent.
    """
    with database.connect() as connection:
        row = completed(connection, job)
        known = origin(connection, row)
        tags = all_tags(connection, row.dataset)
    files: ScoreFiles = request.app.state.score_files
    subset = Subset(
        database,
        store,
        files,
        dataset=row.dataset,
        artifact=row.scores,
        tags=tags,
        chosen_by={"policy": asked.policy, "group": group},
    )
    try:
        chosen = choose(database, files, row, asked)
        positions = chosen.positions(group)
        lineage = export_lineage(row, known, asked, chosen, group)
        subset.gather(chosen.rank_E[positions], chosen.row_E[positions])
        chunks = subset.lines() if format == "jsonl" else _pieces(subset.parquet(lineage))
    except BaseException:
        subset.close()
        raise
    return StreamingResponse(
        _closing(subset, chunks),
        media_type=MEDIA_TYPES[format],
        headers={
            "X-Premem-Rows": str(subset.rows),
            "X-Premem-Qualified": str(chosen.selection.qualified),
            "X-Premem-Excluded": str(chosen.excluded),
            **({"X-Premem-Notes": "; ".join(chosen.notes)} if chosen.notes else {}),
            "Link": f'<{beside(request)}>; rel="describedby"',
            "Content-Disposition": f'attachment; filename="curated-{job}.{format}"',
        },
    )


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(2**18):
        yield piece


def _closing(subset: Subset, chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    finally:
        subset.close()
