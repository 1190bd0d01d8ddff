"""What a worker hands in for one task of embeddings: a Parquet file, one row per prompt."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from premem.errors import InputError
from premem.payloads.results import check_rows, metadata, read

SCHEMA = pl.Schema(
    {
        "row": pl.Int64(),  # position in the data set
        "skipped": pl.String(),  # why there is no embedding; null where there is one
        "tokens": pl.Int64(),  # of the prompt
        "embedding": pl.List(pl.Float32()),
    }
)


@dataclass(frozen=True, slots=True)
class Embedding:
    """One prompt, as the model sees it."""

    row: int
    vector: Sequence[float] | None
    """Mean over the prompt's tokens of the last hidden state; None where it was skipped."""
    tokens: int = 0
    skipped: str | None = None


def encode(rows: Sequence[Embedding], *, produced_by: Mapping[str, str]) -> bytes:
    """Sorted by row."""
    ordered = sorted(rows, key=lambda one: one.row)
    frame = pl.DataFrame(
        {
            "row": [one.row for one in ordered],
            "skipped": [one.skipped for one in ordered],
            "tokens": [one.tokens for one in ordered],
            "embedding": [one.vector for one in ordered],
        },
        schema=SCHEMA,
    )
    out = io.BytesIO()
    frame.write_parquet(out, compression="zstd", metadata=metadata(produced_by))
    return out.getvalue()


def check(content: bytes, *, start: int, stop: int) -> tuple[pl.DataFrame, dict[str, str]]:
    """The frame and its metadata, after making sure that it holds each row of [start, stop) once and whole.

    Raises InputError, naming the first thing that is wrong.
    """
    frame, produced_by = read(content, SCHEMA)
    check_rows(frame, start=start, stop=stop)
    vectors = frame.filter(pl.col("skipped").is_null())["embedding"]
    if vectors.null_count() or vectors.list.len().n_unique() > 1 or (vectors.len() and not vectors.list.len()[0]):
        raise InputError("each row that was not skipped needs an embedding, all of one width")
    if not vectors.explode().is_finite().fill_null(False).all():
        raise InputError("embeddings hold finite numbers only")
    return frame, produced_by
