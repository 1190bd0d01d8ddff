"""The curated subset: the uploaded rows with the lowest pre-memorization accuracy, in rank order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, Any, Literal, cast

import numpy as np
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
from service.store import Store, StoreFull, is_full

ROWS_AT_ONCE = 2_048
READ_AT_ONCE = 8_192
IN_MEMORY_BYTES = 16 * 2**20
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
        self._originals = _temporary()
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
        except OSError as error:
            raise _full(error) from error
        self._stops = np.zeros(self.rows, np.int64)
        self._stops[order] = np.cumsum(sizes[order])
        self._starts = self._stops - sizes

    def pairs(self) -> Iterator[list[tuple[bytes, dict[str, Any]]]]:
        """Originals, as JSON, and what premem says of them, in the order of the ranks."""
        for first in range(0, self.rows, ROWS_AT_ONCE):
            stop = min(first + ROWS_AT_ONCE, self.rows)
            with self._files.open(self._artifact) as scores:
                records = scores.slice(first, stop).to_pylist()
            yield [(self._original(rank), _about(record)) for rank, record in enumerate(records, first)]

    def lines(self) -> Iterator[bytes]:
        """JSON Lines, in pieces of whole lines."""
        for pairs in self.pairs():
            yield b"".join(_line(original, about) for original, about in pairs)

    def parquet(self) -> IO[bytes]:
        """One Parquet file, its types found by reading everything once. Raises StoreFull."""
        kinds = jsontypes.see_all(_row(*pair) for pairs in self.pairs() for pair in pairs)
        out = _temporary()
        try:
            if not kinds:
                kinds = jsontypes.see_all([{"premem": _about(_EMPTY)}])
            schema = jsontypes.table([], kinds).schema
            with pq.ParquetWriter(out, schema, compression="zstd") as writer:
                for pairs in self.pairs():
                    writer.write_table(jsontypes.table([_row(*pair) for pair in pairs], kinds))
        except OSError as error:
            out.close()
            raise _full(error) from error
        out.seek(0)
        return out

    def close(self) -> None:
        self._originals.close()

    def _original(self, rank: int) -> bytes:
        self._originals.seek(int(self._starts[rank]))
        return self._originals.read(int(self._stops[rank] - self._starts[rank]))


_EMPTY = {"rank": 0, "row": 0, "score": 0.0, "mean_accuracy": 0.0, "accuracy": [0.0], "perplexity": [0.0]}


def _about(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "rank": record["rank"],
        "row": record["row"],
        "pre_memorization_accuracy": record["score"],
        "mean_accuracy": record["mean_accuracy"],
        "accuracy": record["accuracy"],
        "perplexity": record["perplexity"],
    }


def _row(original: bytes, about: dict[str, Any]) -> dict[str, Any]:
    return {**from_json(original), "premem": about}


def _line(original: bytes, about: dict[str, Any]) -> bytes:
    """The original as it was stored, number by number, with one more member at its end."""
    if b'"premem"' in original:  # a subset that was uploaded again: its old scores go
        return json.dumps(_row(original, about), ensure_ascii=False).encode() + b"\n"
    comma = b"" if original[:-1].strip() == b"{" else b","
    return original[:-1] + comma + b'"premem":' + to_json(about) + b"}\n"


def _temporary() -> IO[bytes]:
    return cast(IO[bytes], SpooledTemporaryFile(max_size=IN_MEMORY_BYTES))


def _full(error: OSError) -> Exception:
    if is_full(error):
        return StoreFull("no room is left for a temporary file: free some space and try again")
    return error


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(2**18):
            yield piece


def _closing(subset: Subset, chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    finally:
        subset.close()
