"""The ranked score file of a job, written in batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from premem.curation.policies import mean_accuracies
from premem.method.memorization import memorized
from premem.method.uncertainty import score_intervals
from premem_service.datasets.reading import manifest
from premem_service.queue.finalizing import Lease
from premem_service.scores.observations import (
    Floats,
    Observed,
)
from premem_service.scores.score_files import GROUP_ROWS, SCHEMA
from premem_service.storage.db import Database
from premem_service.storage.rows import JobRow
from premem_service.storage.store import Store

PREFIX = "scores/"
WRITTEN_AT_ONCE = 32 * GROUP_ROWS
SNIPPET_CHARACTERS = 300


def write(
    database: Database,
    store: Store,
    job: JobRow,
    artifact: str,
    seen: Observed,
    score_E: Floats,
    perturbed_VE: Floats,
    ranked: NDArray[np.int64],
    memorized_below: float,
    lease: Lease,
) -> None:
    ids, questions = _names(database, store, job.dataset, lease)
    mean_E = mean_accuracies(score_E, seen.accuracy_CE)
    low_R, high_R = _intervals(seen, score_E, ranked, memorized_below)
    with store.writing(artifact) as out, pq.ParquetWriter(out, SCHEMA, compression="zstd") as writer:
        for first in range(0, ranked.size, WRITTEN_AT_ONCE):
            lease.check()
            rows = ranked[first : first + WRITTEN_AT_ONCE]
            perplexity_EC = seen.perplexity_CE[:, rows].T
            columns = [
                pa.array(np.arange(first, first + rows.size)),
                pa.array(rows),
                ids.take(pa.array(rows)),
                questions.take(pa.array(rows)),
                pa.array(score_E[rows]),
                pa.array(mean_E[rows], from_pandas=True),
                _lists(seen.accuracy_CE[:, rows].T, from_pandas=True),
                _lists(perplexity_EC),
                _lists(perplexity_EC < memorized_below),
                pa.array(low_R[first : first + rows.size]),
                pa.array(high_R[first : first + rows.size]),
                _copied(seen, rows),
                _lists(perturbed_VE[:, rows].T, from_pandas=True),
            ]
            arrays = [column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column for column in columns]
            writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), row_group_size=GROUP_ROWS)


def _intervals(
    seen: Observed, score_E: Floats, ranked: NDArray[np.int64], memorized_below: float
) -> tuple[Floats, Floats]:
    """Of every score, in the order of the ranks."""
    memorized_CR = memorized(seen.perplexity_CE[:, ranked], memorized_below=memorized_below)
    return score_intervals(
        score_E[ranked],
        seen.correct_CE[:, ranked],
        memorized_CR,
        samples=seen.per_pair,
        drawn_CE=seen.drawn_CE[:, ranked],
    )


def _copied(seen: Observed, rows: NDArray[np.int64]) -> pa.ListArray:
    copied_CE = np.full((len(seen.names), rows.size), np.nan) if seen.copied_CE is None else seen.copied_CE[:, rows]
    return _lists(copied_CE.T, from_pandas=True)


def _names(database: Database, store: Store, dataset: str, lease: Lease) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Every example's id and the beginning of its question."""
    with database.connect() as connection:
        shards = manifest(connection, dataset)
    ids: list[pa.Array] = []
    questions: list[pa.Array] = []
    for shard in shards:
        lease.check()
        with store.open(shard.artifact) as content, pq.ParquetFile(content) as file:
            table = file.read(columns=["id", "question"])
        ids += table["id"].chunks
        questions += pc.utf8_slice_codeunits(table["question"], 0, SNIPPET_CHARACTERS).chunks
    return pa.chunked_array(ids, pa.string()), pa.chunked_array(questions, pa.string())


def _lists(values_EC: NDArray[Any], *, from_pandas: bool = False) -> pa.ListArray:
    """With `from_pandas`, NaN is null."""
    offsets = np.arange(len(values_EC) + 1, dtype=np.int32) * np.int32(values_EC.shape[1])
    values = pa.array(np.ascontiguousarray(values_EC).ravel(), from_pandas=from_pandas)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
