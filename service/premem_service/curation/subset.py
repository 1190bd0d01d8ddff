"""The rows of a curated subset, with what is known of each, in batches of bounded size."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic_core import from_json, to_json

from premem.wire.lineage import LINEAGE_KEY, ExportLineage
from premem_service.curation import jsontypes
from premem_service.datasets.reading import read_rows_at
from premem_service.datasets.tags import Tags
from premem_service.scores.score_files import SCHEMA, ScoreFiles
from premem_service.storage.db import Database
from premem_service.storage.store import Store, StoreFull, is_full

ROWS_AT_ONCE = 2_048
READ_AT_ONCE = 8_192
ADDED = "premem"
ADDED_KEY = b'"premem"'
"""The member that every row gets."""
SCORED = pa.schema([SCHEMA.field(name) for name in ("rank", "row", "score", "mean_accuracy", "accuracy", "perplexity")])


TAGS = pa.field("tags", pa.list_(pa.string()), nullable=False)


ABOUT = {"score": "pre_memorization_accuracy"}


class Subset:
    """Rows of a ranking, beside the originals that they stand for.

    The originals are read in the order of the data set, each part of it once, into a temporary file, and taken out
    of it in the order that was chosen: of memory that takes 16 bytes per row. The scores are held too, unless the
    order is that of the ranks.
    """

    def __init__(
        self,
        database: Database,
        store: Store,
        files: ScoreFiles,
        *,
        dataset: str,
        artifact: str,
        tags: Tags,
        chosen_by: dict[str, str],
    ) -> None:
        self._database = database
        self._store = store
        self._files = files
        self._dataset = dataset
        self._artifact = artifact
        self._tags = tags
        self._chosen_by = chosen_by
        self._first_rank = 0
        self._scored: pa.Table | None = None
        self._files_open = ExitStack()
        self._originals = self._temporary()
        self._text: bytes | mmap.mmap = b""
        self._starts: NDArray[np.int64] = np.zeros(0, np.int64)
        self._stops: NDArray[np.int64] = np.zeros(0, np.int64)
        self.rows = 0

    def gather(self, ranks: NDArray[np.int64], positions: NDArray[np.int64]) -> None:
        """Read the originals, which stand at `positions` of the data set. Raises ArtifactLost, StoreFull, StoreError."""
        self.rows = len(ranks)
        self._first_rank = int(ranks[0]) if self.rows else 0
        if not np.array_equal(ranks, np.arange(self._first_rank, self._first_rank + self.rows)):
            with self._files.open(self._artifact) as scores:
                self._scored = scores.at(ranks, columns=SCORED.names)
        order = np.argsort(positions)
        sizes = np.zeros(self.rows, np.int64)
        try:
            for first in range(0, self.rows, READ_AT_ONCE):
                ranks = order[first : first + READ_AT_ONCE]
                originals = read_rows_at(self._database, self._store, self._dataset, positions[ranks].tolist())
                texts = [text.encode() for text in originals["columns"]]
                sizes[ranks] = [len(text) for text in texts]
                self._originals.write(b"".join(texts))
            self._originals.flush()
            if self._originals.tell():  # what is empty cannot be mapped
                mapped = mmap.mmap(self._originals.fileno(), 0, access=mmap.ACCESS_READ)
                self._text = self._files_open.enter_context(mapped)
        except OSError as error:
            raise _full(error) from error
        self._stops = np.zeros(self.rows, np.int64)
        self._stops[order] = np.cumsum(sizes[order])
        self._starts = self._stops - sizes

    def lines(self) -> Iterator[bytes]:
        """JSON Lines, in pieces of whole lines."""
        for originals, scored in self._parts():
            yield b"".join(map(_line, originals, _abouts(scored, self._chosen_by)))

    def parquet(self, lineage: ExportLineage) -> IO[bytes]:
        """One Parquet file, its types found by reading everything once. Raises StoreFull."""
        kinds = jsontypes.see_all(from_json(text) for originals, _ in self._parts() for text in originals)
        kinds.pop(ADDED, None)
        out = self._temporary()
        schema = _table([], SCORED.append(TAGS).empty_table(), kinds, self._chosen_by).schema
        schema = schema.with_metadata({LINEAGE_KEY: lineage.model_dump_json()})
        try:
            with pq.ParquetWriter(out, schema, compression="zstd") as writer:
                for originals, scored in self._parts():
                    writer.write_table(_table(originals, scored, kinds, self._chosen_by))
        except OSError as error:
            raise _full(error) from error
        out.seek(0)
        return out

    def _parts(self) -> Iterator[tuple[list[bytes], pa.Table]]:
        """Originals, as JSON, and their scores and tags, in the order that was chosen."""
        for first in range(0, self.rows, ROWS_AT_ONCE):
            stop = min(first + ROWS_AT_ONCE, self.rows)
            scored = self._scores_of(first, stop)
            places = zip(self._starts[first:stop].tolist(), self._stops[first:stop].tolist(), strict=True)
            tags = pa.array(self._tags.of(scored["row"].to_numpy()), TAGS.type)
            yield [self._text[start:end] for start, end in places], scored.append_column(TAGS, tags)

    def _scores_of(self, first: int, stop: int) -> pa.Table:
        if self._scored is not None:
            return self._scored.slice(first, stop - first)
        with self._files.open(self._artifact) as scores:
            return scores.slice(self._first_rank + first, self._first_rank + stop, columns=SCORED.names)

    def close(self) -> None:
        """Its temporary files are gone after this."""
        self._files_open.close()

    def _temporary(self) -> IO[bytes]:
        path = self._files_open.enter_context(self._store.temporary_file())
        return self._files_open.enter_context(path.open("w+b"))


def _about(scored: pa.Table, chosen_by: dict[str, str]) -> pa.StructArray:
    """What premem adds to every row."""
    columns = {ABOUT.get(name, name): scored[name].combine_chunks() for name in scored.column_names}
    columns |= {name: pa.repeat(value, len(scored)) for name, value in chosen_by.items()}
    return pa.StructArray.from_arrays(list(columns.values()), names=list(columns))


def _abouts(scored: pa.Table, chosen_by: dict[str, str]) -> list[dict[str, Any]]:
    """The same for JSON. Lists of numbers go by way of NumPy: Arrow makes Python objects of them ten times slower."""
    columns = {}
    for name in scored.column_names:
        column = scored[name].combine_chunks()
        numbers = pa.types.is_list(column.type) and pa.types.is_floating(column.type.value_type)
        if numbers and not column.flatten().null_count:
            columns[name] = column.flatten().to_numpy().reshape(len(column), -1).tolist()
        else:
            columns[name] = column.to_pylist()
    names = [ABOUT.get(name, name) for name in columns]
    return [{**dict(zip(names, values, strict=True)), **chosen_by} for values in zip(*columns.values(), strict=True)]


def _table(
    originals: list[bytes], scored: pa.Table, kinds: dict[str, jsontypes.Kind], chosen_by: dict[str, str]
) -> pa.Table:
    rows = jsontypes.table([from_json(text) for text in originals], kinds)
    return rows.append_column(ADDED, _about(scored, chosen_by))


def _line(original: bytes, about: dict[str, Any]) -> bytes:
    """The original as it was stored, number by number, with one more member at its end."""
    if ADDED_KEY in original:  # a subset that was uploaded again: its old scores go
        return json.dumps({**from_json(original), ADDED: about}, ensure_ascii=False).encode() + b"\n"
    comma = b"" if original[:-1].strip() == b"{" else b","
    return b"%s%s%s:%s}\n" % (original[:-1], comma, ADDED_KEY, to_json(about))


def _full(error: OSError) -> Exception:
    if is_full(error):
        return StoreFull("no room is left for a temporary file: free some space and try again")
    return error
