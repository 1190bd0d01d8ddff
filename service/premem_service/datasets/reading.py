"""Reading the rows of a data set out of its shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, select

from premem.errors import InputError, NotFound
from premem.wire.jobs import Template
from premem_service.datasets.shards import Shard, frame, rows_at, tables
from premem_service.http.problems import FieldError
from premem_service.storage.db import Database
from premem_service.storage.rows import DatasetRow, first_of
from premem_service.storage.store import ArtifactLost, Store
from premem_service.storage.tables import dataset_shards, datasets


def check_template(database: Database, dataset: str, template: Template, *, field: str) -> None:
    """Raises FieldError where a chat template would ask another chat than the rows hold. None of this name: no error."""
    if not template.chat:
        return
    with database.connect() as connection:
        found = first_of(DatasetRow, connection, select(datasets).where(datasets.c.id == dataset))
    if found is not None and found.chats:
        raise FieldError(
            field,
            f"{found.chats:,} of the {found.rows:,} rows of {dataset} hold more than one message of the "
            "user before the answer: a system message, tools or earlier turns. With a chat template (--chat) all of that "
            "would be asked as one message of the user, which is not what was trained on. Upload the rows that have one "
            "question and one answer; where all share one system message, leave it out of the rows and give it as "
            "template.system (--system)",
        )


def read_rows(database: Database, store: Store, dataset: str, start: int, stop: int) -> pl.DataFrame:
    """Rows [start, stop) of a data set, with the columns of `shards.SCHEMA`.

    Raises NotFound, InputError for rows that are not there, ArtifactLost, StoreError.
    """
    shards, rows = shards_of(database, dataset)
    check_range(dataset, start, stop, rows)
    return frame(pa.concat_tables(known(dataset, tables(store, shards, start, stop))))


def read_rows_at(
    database: Database, store: Store, dataset: str, positions: Sequence[int], *, columns: list[str] | None = None
) -> pl.DataFrame:
    """The rows at some positions, in their order (which may repeat), reading only the row groups that hold them.

    All columns where none is named. Raises NotFound, IndexError, ArtifactLost, StoreError.
    """
    shards, _ = shards_of(database, dataset)
    try:
        return rows_at(store, shards, positions, columns=columns)
    except ArtifactLost as error:
        raise _lost(dataset, error) from error


def read_columns(database: Database, store: Store, dataset: str, *names: str) -> Iterator[pa.Table]:
    """Some columns of a whole data set, one shard after the other. Raises NotFound, ArtifactLost, StoreError."""
    shards, _ = shards_of(database, dataset)
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


def shards_of(database: Database, dataset: str) -> tuple[list[Shard], int]:
    with database.connect() as connection:
        rows = found_dataset(connection, dataset).rows
        return manifest(connection, dataset), rows


def check_range(dataset: str, start: int, stop: int, rows: int) -> None:
    if not 0 <= start < stop <= rows:
        raise InputError(f"there are no rows from {start} to {stop} in the data set {dataset}: it has {rows:,} rows")


def known(dataset: str, parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
    try:
        yield from parts
    except ArtifactLost as error:
        raise _lost(dataset, error) from error


def _lost(dataset: str, error: ArtifactLost) -> ArtifactLost:
    return ArtifactLost(f"the data set {dataset} has lost a file ({error}); uploading the same rows again restores it")


def found_dataset(connection: Connection, dataset: str) -> DatasetRow:
    row = first_of(DatasetRow, connection, select(datasets).where(datasets.c.id == dataset))
    if row is None:
        raise NotFound(f"there is no data set {dataset!r}")
    return row
