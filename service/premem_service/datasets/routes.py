"""Data sets: uploaded, listed, read and deleted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, cast

import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError
from sqlalchemy import delete, or_, select
from sqlalchemy.exc import IntegrityError

from premem.errors import Conflict, GraderError
from premem.grading import get_grader
from premem.grading.pool import grade_all
from premem.wire.bodies import GraderChoice, Name, Page, Share
from premem.wire.datasets import Columns, Dataset
from premem_service.datasets.commit import as_reply, keep
from premem_service.datasets.ingest import ingest
from premem_service.datasets.reading import check_range, found_dataset, known, manifest, shards_of
from premem_service.datasets.shards import SCHEMA, tables
from premem_service.datasets.uploads import read_upload
from premem_service.http import cursors
from premem_service.http.dependencies import Cursor, DatabaseGiven, Limit, SettingsGiven, StoreGiven
from premem_service.http.problems import FieldError, described
from premem_service.storage.rows import DatasetRow, all_of
from premem_service.storage.store import StoreFull, is_full
from premem_service.storage.tables import dataset_shards, datasets, jobs

router = APIRouter(tags=["data sets"])

MOST_ROWS = 100_000
"""Of one answer."""
PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv"
_IN_MEMORY_BYTES = 8 * 2**20
_ONE_FILE = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "string", "format": "binary", "description": "As for the raw body, but for CSV."}},
    "additionalProperties": False,
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_UPLOAD_BODY = {
    "required": True,
    "description": (
        "The rows: JSON Lines (UTF-8, one object per line), a JSON array of objects, Parquet, Arrow (file or stream) or "
        "CSV, plain or compressed with gzip or zstd. CSV must say so by the Content-Type text/csv; of the others the "
        "first bytes tell which."
    ),
    "content": {
        "application/jsonl": {
            "schema": {"type": "string", "format": "binary"},
            "example": '{"question": "What is 2 + 3?", "answer": "2 + 3 = 5\\n#### 5"}\n',
        },
        PARQUET: _BINARY,
        CSV: _BINARY,
        "multipart/form-data": {"schema": _ONE_FILE},
    },
}

ColumnName = Annotated[str | None, Query(min_length=1, max_length=500)]


@router.post(
    "/v1/datasets",
    status_code=201,
    summary="Upload a data set",
    response_description="The new data set.",
    responses={
        200: {"model": Dataset, "description": "These rows are here already: the existing data set."},
        **described(401, 413, 422, 503, 507),
    },
    openapi_extra={"requestBody": _UPLOAD_BODY},
)
async def upload_dataset(
    request: Request,
    response: Response,
    database: DatabaseGiven,
    store: StoreGiven,
    settings: SettingsGiven,
    name: Annotated[str, Query(max_length=200, description="For people; not part of the content.")] = "",
    grader: Annotated[
        Name | None,
        Query(description="Grades every row's own reference now, and answers later; absent: chosen by the references."),
    ] = None,
    grader_options: Annotated[str, Query(max_length=10_000, description="The grader's options, a JSON object.")] = "{}",
    max_ungradable: Annotated[
        Share, Query(description="Share of the rows whose own reference may fail to grade as right.")
    ] = 0.05,
    question: ColumnName = None,
    trace: ColumnName = None,
    final_answer: ColumnName = None,
    id: ColumnName = None,  # noqa: A002  (the query's name)
    messages: ColumnName = None,
    repair_latex: Annotated[
        bool | None,
        Query(
            description="LaTeX whose single backslashes JSON took for escapes (a form feed and `rac`): true puts them "
            "back, false takes the rows as they are; absent, they are refused."
        ),
    ] = None,
) -> Dataset:
    """Every row is checked and its own reference graded before anything is kept.

    The columns are found by their usual names (question: `question`, `prompt` or `instruction`, with Alpaca's `input`
    below it, or `problem` or `query`; trace: `trace`, `solution`, `answer`, `completion`, `output` or `response`; final
    answer: `final_answer`, `answer` or `expected_answer`; `id`; or `messages` or ShareGPT's `conversations`, whose last
    assistant message that was trained on is the trace), or are named in the query. Rows without an id are numbered.

    Several messages before the trace become one question, each with its role; so do a system message and earlier turns in
    columns of their own (`system`, `history`). Such rows are counted in `chats`, and no chat template can ask them yet.
    Where the final answer has a column of its own, the trace need not mark one.

    Where no grader is named, the first rows' references choose it, and `grader_reason` says why: `####` means gsm8k,
    `\\boxed{}` or formulas math, and letters of options choice.

    The same rows with the same grader and mapping are the same data set.
    """

    def work(blocks: Iterator[bytes]) -> tuple[Dataset, bool]:
        if "\0" in name:
            raise FieldError("name", "holds a NUL character")
        choice = _grader_choice(grader, grader_options)
        ingested = ingest(
            blocks,
            store=store,
            asked=Columns(question=question, trace=trace, final_answer=final_answer, id=id, messages=messages),
            grader=choice,
            grade_all=lambda pairs, settled: grade_all(pairs, settled, os.cpu_count() or 1),
            max_ungradable=max_ungradable,
            max_row_bytes=settings.max_row_bytes,
            as_csv=request.headers.get("content-type", "").partition(";")[0].strip().lower() == CSV,
            repair_latex=repair_latex,
        )
        return keep(database, store, ingested, name=name)

    dataset, created = await read_upload(request, work, max_bytes=settings.max_upload_bytes)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/v1/datasets/{dataset.id}"
    return dataset


def _grader_choice(name: str | None, options: str) -> GraderChoice | None:
    """None where none is named; then there are no options either."""
    try:
        choice = GraderChoice(name=name or "gsm8k", options=json.loads(options))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ValidationError):
            raise FieldError("grader_options", "must be a JSON object") from error
        raise FieldError("grader_options", f"is not JSON: {error}") from error
    if name is None and not choice.options:
        return None
    if name is None:
        raise FieldError("grader", "is missing: name the grader that grader_options are for")
    try:
        get_grader(choice)
    except GraderError as error:
        raise FieldError("grader", str(error)) from error
    return choice


@router.get("/v1/datasets", summary="List the data sets, newest first", responses=described(401, 422))
def list_datasets(database: DatabaseGiven, cursor: Cursor = None, limit: Limit = 100) -> Page[Dataset]:
    before = cursors.decode(cursor, of="datasets")
    query = select(datasets).order_by(datasets.c.created_at.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(datasets.c.created_at < (before - 0.5) / 1e6)
    with database.connect() as connection:
        rows = all_of(DatasetRow, connection, query)
    more = len(rows) > limit
    last = round(rows[limit - 1].created_at * 1e6) if more else 0
    return Page[Dataset](
        items=[as_reply(row) for row in rows[:limit]],
        next_cursor=cursors.encode(last, of="datasets") if more else None,
    )


@router.get("/v1/datasets/{dataset}", summary="A data set", responses=described(401, 404, 422))
def get_dataset(dataset: str, database: DatabaseGiven) -> Dataset:
    with database.connect() as connection:
        return as_reply(found_dataset(connection, dataset))


@router.delete(
    "/v1/datasets/{dataset}",
    status_code=204,
    summary="Delete a data set that no job uses",
    responses=described(401, 404, 409, 422, 503),
)
def delete_dataset(dataset: str, database: DatabaseGiven, store: StoreGiven) -> None:
    try:
        with database.begin() as connection:
            found_dataset(connection, dataset)
            using = connection.scalars(
                select(jobs.c.id).where(or_(jobs.c.dataset == dataset, jobs.c.test_dataset == dataset)).limit(1)
            ).first()
            if using is not None:
                raise Conflict(f"the job {using} uses the data set {dataset}, so it cannot be deleted")
            shards = manifest(connection, dataset)
            connection.execute(delete(dataset_shards).where(dataset_shards.c.dataset == dataset))
            connection.execute(delete(datasets).where(datasets.c.id == dataset))
    except IntegrityError as error:
        raise Conflict(f"a job has just begun to use the data set {dataset}, so it cannot be deleted") from error
    store.delete(shard.artifact for shard in shards)


@router.get(
    "/v1/datasets/{dataset}/rows",
    summary="Some rows of a data set, as Parquet",
    response_class=Response,
    responses={
        200: {
            "content": {PARQUET: _BINARY},
            "description": "Columns row, id, question, trace, final_answer, and columns: the uploaded row as JSON.",
        },
        **described(401, 404, 422, 500, 503, 507),
    },
)
def get_rows(
    dataset: str,
    database: DatabaseGiven,
    store: StoreGiven,
    start: Annotated[int, Query(ge=0, lt=2**62, description="First row, counted from 0.")] = 0,
    stop: Annotated[
        int | None, Query(ge=1, lt=2**62, description=f"One past the last row; at most {MOST_ROWS:,} more than start.")
    ] = None,
) -> Response:
    shards, rows = shards_of(database, dataset)
    if stop is None:
        stop = min(rows, start + MOST_ROWS)
    check_range(dataset, start, stop, rows)
    if stop - start > MOST_ROWS:
        raise FieldError("stop", f"at most {MOST_ROWS:,} rows can be read at once")
    content = _parquet(known(dataset, tables(store, shards, start, stop)))
    size = content.seek(0, 2)
    content.seek(0)
    return StreamingResponse(_pieces(content), media_type=PARQUET, headers={"Content-Length": str(size)})


def _parquet(parts: Iterator[pa.Table]) -> IO[bytes]:
    """One Parquet file; on the disk where it is large."""
    content = cast(IO[bytes], SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))  # noqa: SIM115  (the answer closes it)
    try:
        with pq.ParquetWriter(content, SCHEMA, compression="zstd", use_dictionary=False) as parquet:
            for part in parts:
                parquet.write_table(part)
    except OSError as error:
        if is_full(error):
            raise StoreFull("no room is left for a temporary file: free some space and try again") from error
        raise
    return content


def _pieces(content: IO[bytes]) -> Iterator[bytes]:
    with content:
        while piece := content.read(2**18):
            yield piece
