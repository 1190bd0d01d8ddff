"""Data sets: uploaded, listed, read and deleted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, Any, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError
from sqlalchemy import Connection, delete, func, insert, or_, select, update
from sqlalchemy.engine import RowMapping
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from premem.errors import Conflict, GraderError, InputError, NotFound
from premem.grading import get_grader
from premem.grading.pool import grade_all
from premem.wire.bodies import Columns, Dataset, GraderChoice, Name, Page, Share
from premem_service.datasets.ingest import Ingested, ingest
from premem_service.datasets.shards import SCHEMA, Shard, frame, rows_at, tables
from premem_service.datasets.uploads import read_upload
from premem_service.http import cursors
from premem_service.http.dependencies import Cursor, DatabaseGiven, Limit, SettingsGiven, StoreGiven
from premem_service.http.problems import FieldError, described
from premem_service.storage.db import Database, now
from premem_service.storage.store import ArtifactLost, Store, StoreError, StoreFull, is_full
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
    grader: Annotated[Name, Query(description="Grades every row's own reference now, and answers later.")] = "gsm8k",
    grader_options: Annotated[str, Query(max_length=10_000, description="The grader's options, a JSON object.")] = "{}",
    max_ungradable: Annotated[
        Share, Query(description="Share of the rows whose own reference may fail to grade as right.")
    ] = 0.05,
    question: ColumnName = None,
    trace: ColumnName = None,
    final_answer: ColumnName = None,
    id: ColumnName = None,  # noqa: A002  (the query's name)
    messages: ColumnName = None,
) -> Dataset:
    """Every row is checked and its own reference graded before anything is kept.

    The columns are found by their usual names (question: `question`, `prompt` or `instruction`, with Alpaca's `input`
    below it; trace: `trace`, `solution`, `answer`, `completion`, `output` or `response`; final answer: `final_answer` or
    `answer`; `id`; or `messages` or ShareGPT's `conversations`, whose last assistant message is the trace), or are named in the query. The same rows with the same grader and mapping are the same data set.
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
            grader_version=get_grader(choice).version,
            grade_all=lambda pairs: grade_all(pairs, choice, os.cpu_count() or 1),
            max_ungradable=max_ungradable,
            max_row_bytes=settings.max_row_bytes,
            as_csv=request.headers.get("content-type", "").partition(";")[0].strip().lower() == CSV,
        )
        return keep(database, store, ingested, name=name, grader=choice)

    dataset, created = await read_upload(request, work, max_bytes=settings.max_upload_bytes)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/v1/datasets/{dataset.id}"
    return dataset


def _grader_choice(name: str, options: str) -> GraderChoice:
    try:
        choice = GraderChoice(name=name, options=json.loads(options))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ValidationError):
            raise FieldError("grader_options", "must be a JSON object") from error
        raise FieldError("grader_options", f"is not JSON: {error}") from error
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
        rows = connection.execute(query).mappings().all()
    more = len(rows) > limit
    last = round(rows[limit - 1]["created_at"] * 1e6) if more else 0
    return Page[Dataset](
        items=[_as_reply(row) for row in rows[:limit]],
        next_cursor=cursors.encode(last, of="datasets") if more else None,
    )


@router.get("/v1/datasets/{dataset}", summary="A data set", responses=described(401, 404, 422))
def get_dataset(dataset: str, database: DatabaseGiven) -> Dataset:
    with database.connect() as connection:
        return _as_reply(_found(connection, dataset))


@router.delete(
    "/v1/datasets/{dataset}",
    status_code=204,
    summary="Delete a data set that no job uses",
    responses=described(401, 404, 409, 422, 503),
)
def delete_dataset(dataset: str, database: DatabaseGiven, store: StoreGiven) -> None:
    try:
        with database.begin() as connection:
            _found(connection, dataset)
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
    shards, rows = _shards(database, dataset)
    if stop is None:
        stop = min(rows, start + MOST_ROWS)
    _check_range(dataset, start, stop, rows)
    if stop - start > MOST_ROWS:
        raise FieldError("stop", f"at most {MOST_ROWS:,} rows can be read at once")
    content = _parquet(_known(dataset, tables(store, shards, start, stop)))
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


# For other routes


def read_rows(database: Database, store: Store, dataset: str, start: int, stop: int) -> pl.DataFrame:
    """Rows [start, stop) of a data set, with the columns of `shards.SCHEMA`.

    Raises NotFound, InputError for rows that are not there, ArtifactLost, StoreError.
    """
    shards, rows = _shards(database, dataset)
    _check_range(dataset, start, stop, rows)
    return frame(pa.concat_tables(_known(dataset, tables(store, shards, start, stop))))


def read_rows_at(
    database: Database, store: Store, dataset: str, positions: Sequence[int], *, columns: list[str] | None = None
) -> pl.DataFrame:
    """The rows at some positions, in their order (which may repeat), reading only the row groups that hold them.

    All columns where none is named. Raises NotFound, IndexError, ArtifactLost, StoreError.
    """
    shards, _ = _shards(database, dataset)
    try:
        return rows_at(store, shards, positions, columns=columns)
    except ArtifactLost as error:
        raise _lost(dataset, error) from error


def read_columns(database: Database, store: Store, dataset: str, *names: str) -> Iterator[pa.Table]:
    """Some columns of a whole data set, one shard after the other. Raises NotFound, ArtifactLost, StoreError."""
    shards, _ = _shards(database, dataset)
    for shard in shards:
        try:
            with store.open(shard.artifact) as content, pq.ParquetFile(content, pre_buffer=False) as file:
                table = file.read(columns=list(names))
        except ArtifactLost as error:
            raise _lost(dataset, error) from error
        yield table


def manifest(connection: Connection, dataset: str) -> list[Shard]:
    """The shards of a data set, in order."""
    columns = dataset_shards.c
    found = connection.execute(
        select(columns.start, columns.stop, columns.artifact).where(columns.dataset == dataset).order_by(columns.start)
    )
    return [Shard(start=start, stop=stop, artifact=artifact) for start, stop, artifact in found]


def _shards(database: Database, dataset: str) -> tuple[list[Shard], int]:
    with database.connect() as connection:
        rows: int = _found(connection, dataset)["rows"]
        return manifest(connection, dataset), rows


def _check_range(dataset: str, start: int, stop: int, rows: int) -> None:
    if not 0 <= start < stop <= rows:
        raise InputError(f"there are no rows from {start} to {stop} in the data set {dataset}: it has {rows:,} rows")


def _known(dataset: str, parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
    try:
        yield from parts
    except ArtifactLost as error:
        raise _lost(dataset, error) from error


def _lost(dataset: str, error: ArtifactLost) -> ArtifactLost:
    return ArtifactLost(f"the data set {dataset} has lost a file ({error}); uploading the same rows again restores it")


def _found(connection: Connection, dataset: str) -> RowMapping:
    row = connection.execute(select(datasets).where(datasets.c.id == dataset)).mappings().first()
    if row is None:
        raise NotFound(f"there is no data set {dataset!r}")
    return row


def _as_reply(row: RowMapping) -> Dataset:
    return Dataset.model_validate({**row, "created_at": datetime.fromtimestamp(row["created_at"], UTC)})


# The commit


def keep(
    database: Database, store: Store, ingested: Ingested, *, name: str, grader: GraderChoice
) -> tuple[Dataset, bool]:
    """Make what was stored a data set, or find that there is one of the same content. True: it is new.

    An existing one that has lost files gets the new ones. Artifacts that are not needed are deleted.
    """
    artifacts = [shard.artifact for shard in ingested.shards]
    try:
        _check_stored(store, artifacts)
        try:
            return _create(database, ingested, name=name, grader=grader), True
        except IntegrityError:  # the same rows were committed first, by this transaction's side or long ago
            return _existing(database, store, ingested), False
    except SQLAlchemyError:
        raise  # whether the commit took place is not known: what no row names is collected as garbage
    except BaseException:
        store.delete(artifacts)
        raise


def _check_stored(store: Store, artifacts: Sequence[str]) -> None:
    """An upload that takes longer than garbage is let lie finds its first shards collected."""
    folder = artifacts[0].rpartition("/")[0]
    if not set(artifacts) <= {artifact.name for artifact in store.list(folder)}:
        raise StoreError("the upload took so long that its first files were collected as garbage; send it again")


def _create(database: Database, ingested: Ingested, *, name: str, grader: GraderChoice) -> Dataset:
    """Raises IntegrityError where there is a data set of this id."""
    with database.begin() as connection:
        newest = connection.scalar(select(func.max(datasets.c.created_at))) or 0.0
        row: dict[str, Any] = {
            "id": ingested.id,
            "name": name,
            "rows": ingested.rows,
            "bytes": ingested.bytes,
            "columns": ingested.columns.model_dump(),
            "grader": grader.model_dump(),
            "ungradable": ingested.ungradable,
            "ungradable_lines": [
                {"line": bad.line, "field": bad.field, "message": bad.message} for bad in ingested.ungradable_lines
            ],
            # No two alike: pages are cut by it, and SQLite's clock counts milliseconds.
            "created_at": max(now(connection), newest + 1e-6),
        }
        connection.execute(insert(datasets).values(row))
        _name_shards(connection, ingested)
        return _as_reply(_found(connection, ingested.id))


def _existing(database: Database, store: Store, ingested: Ingested) -> Dataset:
    with database.connect() as connection:
        dataset = _as_reply(_found(connection, ingested.id))
        old = manifest(connection, ingested.id)
    unneeded = ingested.shards
    if not all(store.exists(shard.artifact) for shard in old):
        with database.begin() as connection:
            _found(connection, ingested.id)
            connection.execute(delete(dataset_shards).where(dataset_shards.c.dataset == ingested.id))
            _name_shards(connection, ingested)
            connection.execute(update(datasets).where(datasets.c.id == ingested.id).values(bytes=ingested.bytes))
        unneeded = old
    store.delete(shard.artifact for shard in unneeded)
    return dataset


def _name_shards(connection: Connection, ingested: Ingested) -> None:
    rows = [
        {"dataset": ingested.id, "start": shard.start, "stop": shard.stop, "artifact": shard.artifact}
        for shard in ingested.shards
    ]
    connection.execute(insert(dataset_shards), rows)
