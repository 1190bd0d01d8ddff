"""The curated subset: the uploaded rows with the lowest pre-memorization accuracy, in rank order."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO, Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from numpy.typing import NDArray
from pydantic_core import from_json, to_json

from service import jsontypes
from service.datasets import read_rows_at
from service.db import Database
from service.dependencies import DatabaseGiven, StoreGiven
from service.examples import ScoreFiles, completed
from service.problems import described
from service.scores import SCHEMA
from service.store import Store, StoreFull, is_full

ROWS_AT_ONCE = 2_048
READ_AT_ONCE = 8_192
ADDED = "premem"
ADDED_KEY = b'"premem"'
"""The member that every row gets."""
SCORED = pa.schema([SCHEMA.field(name) for name in ("rank", "row", "score", "mean_accuracy", "accuracy", "perplexity")])
ABOUT = {"score": "pre_memorization_accuracy"}
MEDIA_TYPES = {"jsonl": "application/jsonl", "parquet": "application/vnd.apache.parquet"}

router = APIRouter(prefix="/v1/jobs", tags=["examples"])


@router.get(
    "/{job}/curated",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One row per line (or a Parquet file), each as it was uploaded with an added `premem`.",
            "headers": {"X-Premem-Rows": {"description": "How many rows follow.", "schema": {"type": "integer"}}},
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
    below: Annotated[float, Query(ge=0.0, le=1.0, description="Pre-memorization accuracy, exclusive.")] = 0.5,
    budget: Annotated[int | None, Query(ge=1, lt=2**53, description="At most so many rows, the lowest first.")] = None,
    format: Annotated[Literal["jsonl", "parquet"], Query()] = "jsonl",  # noqa: A002  (the query's name)
) -> StreamingResponse:
    """The rows that the model could not solve before it memorized them: where the next data helps most.

    Everything is read and checked before the first byte is sent.
    """
    with database.connect() as connection:
        row = completed(connection, job)
    files: ScoreFiles = request.app.state.score_files
    subset = Subset(database, store, files, dataset=row["dataset"], artifact=row["scores_artifact"])
    try:
        subset.gather(below=below, budget=budget)
        chunks = subset.lines() if format == "jsonl" else _pieces(subset.parquet())
    except BaseException:
        subset.close()
        raise
    return StreamingResponse(
        _closing(subset, chunks),
        media_type=MEDIA_TYPES[format],
        headers={
            "X-Premem-Rows": str(subset.rows),
            "Content-Disposition": f'attachment; filename="curated-{job}.{format}"',
        },
    )


class Subset:
    """The first rows of a ranking, beside the originals that they stand for.

    The originals are read in the order of the data set, each part of it once, into a temporary file, and taken out
    of it in the order of the ranks: memory does not grow with the subset, but for 16 bytes per row.
    """

    def __init__(self, database: Database, store: Store, files: ScoreFiles, *, dataset: str, artifact: str) -> None:
        self._database = database
        self._store = store
        self._files = files
        self._dataset = dataset
        self._artifact = artifact
        self._files_open = ExitStack()
        self._originals = self._temporary()
        self._text: bytes | mmap.mmap = b""
        self._starts: NDArray[np.int64] = np.zeros(0, np.int64)
        self._stops: NDArray[np.int64] = np.zeros(0, np.int64)
        self.rows = 0

    def gather(self, *, below: float, budget: int | None) -> None:
        """Read the originals. Raises ArtifactLost, StoreFull, StoreError."""
        with self._files.open(self._artifact) as scores:
            self.rows = scores.below(below)
            self.rows = self.rows if budget is None else min(self.rows, budget)
            positions = scores.positions(self.rows)
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
            yield b"".join(map(_line, originals, _abouts(scored)))

    def parquet(self) -> IO[bytes]:
        """One Parquet file, its types found by reading everything once. Raises StoreFull."""
        kinds = jsontypes.see_all(from_json(text) for originals, _ in self._parts() for text in originals)
        kinds.pop(ADDED, None)
        out = self._temporary()
        try:
            with pq.ParquetWriter(out, _table([], SCORED.empty_table(), kinds).schema, compression="zstd") as writer:
                for originals, scored in self._parts():
                    writer.write_table(_table(originals, scored, kinds))
        except OSError as error:
            raise _full(error) from error
        out.seek(0)
        return out

    def _parts(self) -> Iterator[tuple[list[bytes], pa.Table]]:
        """Originals, as JSON, and their scores, in the order of the ranks."""
        for first in range(0, self.rows, ROWS_AT_ONCE):
            stop = min(first + ROWS_AT_ONCE, self.rows)
            with self._files.open(self._artifact) as scores:
                scored = scores.slice(first, stop, columns=SCORED.names)
            places = zip(self._starts[first:stop].tolist(), self._stops[first:stop].tolist(), strict=True)
            yield [self._text[start:end] for start, end in places], scored

    def close(self) -> None:
        """Its temporary files are gone after this."""
        self._files_open.close()

    def _temporary(self) -> IO[bytes]:
        path = self._files_open.enter_context(self._store.temporary_file())
        return self._files_open.enter_context(path.open("w+b"))


def _about(scored: pa.Table) -> pa.StructArray:
    """What premem adds to every row."""
    columns = {ABOUT.get(name, name): scored[name].combine_chunks() for name in SCORED.names}
    return pa.StructArray.from_arrays(list(columns.values()), names=list(columns))


def _abouts(scored: pa.Table) -> list[dict[str, Any]]:
    """The same for JSON. Lists go by way of NumPy: Arrow makes Python objects of them ten times slower."""
    columns = {}
    for name in SCORED.names:
        column = scored[name].combine_chunks()
        if pa.types.is_list(column.type):
            columns[name] = column.flatten().to_numpy().reshape(len(column), -1).tolist()
        else:
            columns[name] = column.to_pylist()
    names = [ABOUT.get(name, name) for name in columns]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _table(originals: list[bytes], scored: pa.Table, kinds: dict[str, jsontypes.Kind]) -> pa.Table:
    rows = jsontypes.table([from_json(text) for text in originals], kinds)
    return rows.append_column(ADDED, _about(scored))


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


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(2**18):
        yield piece


def _closing(subset: Subset, chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    finally:
        subset.close()
