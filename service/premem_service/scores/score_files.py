"""Files of scores, opened: sorted by rank, read by the row groups that are needed."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from premem_service.storage.store import Store

REMEMBERED_FILES = 64


class Scores:
    """One job's file of scores, opened."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._file = file
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        self._ends: list[int] = np.cumsum(sizes).tolist()
        self.rows: int = file.metadata.num_rows

    def slice(self, first: int, stop: int, *, columns: list[str] | None = None) -> pa.Table:
        """Ranks [first, stop), of which only the row groups that hold them are read; all columns where none is named."""
        stop = min(stop, self.rows)
        if first >= stop:
            nothing = self._file.schema_arrow.empty_table()
            return nothing if columns is None else nothing.select(columns)
        groups = list(range(bisect_right(self._ends, first), bisect_right(self._ends, stop - 1) + 1))
        before = self._ends[groups[0] - 1] if groups[0] else 0
        return self._file.read_row_groups(groups, columns=columns).slice(first - before, stop - first)

    def at(self, ranks: NDArray[np.integer[Any]], *, columns: list[str] | None = None) -> pa.Table:
        """Some ranks, in their order, reading only the row groups that hold them; all columns where none is named."""
        columns = self._file.schema_arrow.names if columns is None else columns
        order = np.argsort(ranks)
        groups = np.searchsorted(self._ends, ranks[order], side="right")
        found = [self._file.schema_arrow.empty_table().select(columns)]
        for group in np.unique(groups).tolist():
            before = self._ends[group - 1] if group else 0
            table = self._file.read_row_group(group, columns=columns)
            found.append(table.select(columns).take(ranks[order][groups == group] - before))
        back = np.empty(len(ranks), np.int64)
        back[order] = np.arange(len(ranks))
        return pa.concat_tables(found).combine_chunks().take(back)

    def columns(self, *names: str) -> pa.Table:
        """Of all ranks."""
        return self._file.read(columns=list(names))

    def first(self, name: str) -> NDArray[np.float64]:
        """Of a column of lists, what stands first in each; of all ranks, one row group at a time in memory."""
        found = np.empty(self.rows, np.float64)
        for group, stop in enumerate(self._ends):
            lists = self._file.read_row_group(group, columns=[name])[name]
            found[stop - len(lists) : stop] = pc.list_element(lists, 0).to_numpy()
        return found

    def rank_of(self, row: int) -> int | None:
        """None: this row has no score."""
        places = np.flatnonzero(self._file.read(columns=["row"])["row"].to_numpy() == row)
        return int(places[0]) if places.size else None


class ScoreFiles:
    """Files of scores, whose metadata is read once: they never change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[str, pq.FileMetaData] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def open(self, artifact: str) -> Iterator[Scores]:
        """Raises ArtifactLost, StoreError."""
        with self._lock:
            metadata = self._known.get(artifact)
        with self._store.open(artifact) as content, pq.ParquetFile(content, metadata=metadata) as file:
            with self._lock:
                self._known[artifact] = file.metadata
                self._known.move_to_end(artifact)
                while len(self._known) > REMEMBERED_FILES:
                    self._known.popitem(last=False)
            yield Scores(file)


GROUP_ROWS = 2_048
"""What a page reads at least."""
SCHEMA = pa.schema(
    [
        pa.field("rank", pa.int64(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),  # its first characters
        pa.field("score", pa.float64(), nullable=False),  # pre-memorization accuracy at the last checkpoint
        pa.field("mean_accuracy", pa.float64()),  # null: not every answer was drawn
        pa.field("accuracy", pa.list_(pa.float64()), nullable=False),  # per checkpoint, null as the mean
        pa.field("perplexity", pa.list_(pa.float64()), nullable=False),
        pa.field("memorized", pa.list_(pa.bool_()), nullable=False),
        pa.field("low", pa.float64(), nullable=False),  # of the score's 90% interval, which contains it
        pa.field("high", pa.float64(), nullable=False),
        pa.field("copied", pa.list_(pa.float64()), nullable=False),  # per checkpoint; null: the answers are not here
        pa.field("perturbed", pa.list_(pa.float64()), nullable=False),  # accuracy per variant, the baseline first
    ]
)
