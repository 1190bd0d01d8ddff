"""A data set's rows as Parquet artifacts: written one shard after another, read by the row groups that are needed."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from premem_service.datasets.rows import Examples
from premem_service.storage.store import Store

FOLDER = "datasets"
SHARD_ROWS = 16_384
SHARD_BYTES = 32 * 2**20
GROUP_ROWS = 1_024
GROUP_BYTES = 8 * 2**20
"""A row group is the least that is read."""

SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # position in the data set
        pa.field("id", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("trace", pa.string(), nullable=False),
        pa.field("final_answer", pa.string()),
        pa.field("columns", pa.string(), nullable=False),  # the row as it was uploaded, a JSON object
    ]
)


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows [start, stop) of a data set."""

    start: int
    stop: int
    artifact: str


class ShardWriter:
    """Writes rows as Parquet artifacts under names that nobody else uses. Leaving it by an error deletes them.

    A shard is compressed and stored by a thread of its own while the next one is gathered.
    """

    def __init__(self, store: Store) -> None:
        self.bytes = 0
        self._store = store
        self._folder = f"{FOLDER}/{uuid.uuid4().hex}"
        self._shards: list[Shard] = []
        self._start = 0  # of the shard that is being gathered
        self._rows = 0
        self._gathered: list[pa.RecordBatch] = []
        self._gathered_bytes = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shards")
        self._storing: Future[int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        if error is not None:
            self._store.delete(shard.artifact for shard in self._shards)

    def add(self, examples: Examples) -> None:
        """Raises StoreFull or StoreError, of this shard or of an earlier one."""
        values = (
            range(self._rows, self._rows + len(examples)),
            examples.ids,
            examples.questions,
            examples.traces,
            examples.final_answers,
            examples.columns,
        )
        arrays = [pa.array(column, field.type) for column, field in zip(values, SCHEMA, strict=True)]
        self._gathered.append(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))
        self._rows += len(examples)
        self._gathered_bytes += self._gathered[-1].nbytes
        if self._rows - self._start >= SHARD_ROWS or self._gathered_bytes >= SHARD_BYTES:
            self._close_shard()

    def finish(self) -> list[Shard]:
        """Everything is stored now."""
        if self._gathered:
            self._close_shard()
        self._wait()
        return self._shards

    def _close_shard(self) -> None:
        self._wait()
        table = pa.Table.from_batches(self._gathered)
        shard = Shard(start=self._start, stop=self._rows, artifact=f"{self._folder}/{self._start}.parquet")
        self._shards.append(shard)
        self._storing = self._thread.submit(_store_shard, self._store, shard.artifact, table)
        self._gathered, self._gathered_bytes, self._start = [], 0, self._rows

    def _wait(self) -> None:
        if self._storing is not None:
            self.bytes += self._storing.result()
            self._storing = None


def _store_shard(store: Store, artifact: str, table: pa.Table) -> int:
    rows_per_group = min(GROUP_ROWS, max(1, table.num_rows * GROUP_BYTES // max(1, table.nbytes)))
    out = io.BytesIO()
    pq.write_table(
        table, out, compression="zstd", use_dictionary=False, write_statistics=False, row_group_size=rows_per_group
    )
    return store.put(artifact, out.getvalue())


def tables(store: Store, shards: Sequence[Shard], start: int, stop: int) -> Iterator[pa.Table]:
    """Rows [start, stop), one row group at a time. Raises ArtifactLost, StoreError."""
    for shard in shards:
        if shard.start >= stop or shard.stop <= start:
            continue
        with _opened(store, shard) as (file, firsts):
            for group, first in enumerate(firsts[:-1]):
                past = firsts[group + 1]
                if first < stop and past > start:
                    table = file.read_row_group(group)
                    yield table.slice(max(start - first, 0), min(stop, past) - max(start, first))


def rows_at(
    store: Store, shards: Sequence[Shard], positions: Sequence[int], *, columns: list[str] | None = None
) -> pl.DataFrame:
    """The rows at some positions, in the order of the positions; all columns where none is named.

    Raises IndexError, ArtifactLost, StoreError.
    """
    wanted, back = np.unique(np.asarray(positions, dtype=np.int64), return_inverse=True)
    if wanted.size and not 0 <= wanted[0] <= wanted[-1] < max((shard.stop for shard in shards), default=0):
        raise IndexError(f"no row {wanted[0] if wanted[0] < 0 else wanted[-1]}")
    columns = SCHEMA.names if columns is None else columns
    found = [SCHEMA.empty_table().select(columns)]
    for shard in shards:
        inside = wanted[np.searchsorted(wanted, shard.start) : np.searchsorted(wanted, shard.stop)]
        if not inside.size:
            continue
        with _opened(store, shard) as (file, firsts):
            groups = np.searchsorted(firsts, inside, side="right") - 1
            found += [
                file.read_row_group(int(group), columns=columns)
                .select(columns)
                .take(inside[groups == group] - firsts[group])
                for group in np.unique(groups)
            ]
    return frame(pa.concat_tables(found))[back]


def frame(table: pa.Table) -> pl.DataFrame:
    return cast(pl.DataFrame, pl.from_arrow(table))


@contextmanager
def _opened(store: Store, shard: Shard) -> Iterator[tuple[pq.ParquetFile, list[int]]]:
    """The file, and the position in the data set at which each of its row groups begins (and the last one ends)."""
    with store.open(shard.artifact) as content, pq.ParquetFile(content, pre_buffer=False) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        yield file, [shard.start, *(shard.start + np.cumsum(sizes)).tolist()]
