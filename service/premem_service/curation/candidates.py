"""The candidates of a pool that are most like what was not solved."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import select

from premem.curation.acquisition import Candidate, acquire_in_parts
from premem.errors import InputError
from premem.records import Example
from premem.wire.curation import AcquireRequest, Acquisition, CandidateReply, Lineage, NearestExample
from premem.wire.tags import EXCLUDED
from premem_service.datasets.reading import read_columns, read_rows_at
from premem_service.datasets.tags import rows_with
from premem_service.http.problems import FieldError
from premem_service.scores.traits import examples_at
from premem_service.storage.db import Database
from premem_service.storage.rows import JobRow
from premem_service.storage.store import Store
from premem_service.storage.tables import tasks

NEAREST_CHARACTERS = 300
TRAINED, POOL = 0, 1
"""Variants of the tasks that embed: which data set they read."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for, and where."""

    trained_on: str
    """The data set of the job."""
    asked: AcquireRequest
    lineage: Lineage
    low_rows: list[int]
    """Of the training set, best first."""
    rest_rows: list[int]
    """What the low ones are told from."""
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        return {
            "trained_on": self.trained_on,
            "asked": self.asked.model_dump(mode="json"),
            "lineage": self.lineage.model_dump(mode="json"),
            "low_rows": self.low_rows,
            "rest_rows": self.rest_rows,
            "notes": self.notes,
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Self:
        asked, lineage = AcquireRequest.model_validate(kept["asked"]), Lineage.model_validate(kept["lineage"])
        return cls(kept["trained_on"], asked, lineage, kept["low_rows"], kept["rest_rows"], kept["notes"])


def by_embedding(database: Database, store: Store, job: JobRow, *, check: Callable[[], None]) -> Acquisition:
    """What the workers' embeddings say. Raises InputError where nothing can be compared, ArtifactLost, StoreError.

    The mean of all embeddings is taken off each: hidden states of one model share a direction that says nothing.
    """
    assert job.request.acquire is not None  # noqa: S101  (it acquires)
    search = Search.from_json(job.request.acquire)
    columns = tasks.c.variant, tasks.c.artifact
    every = select(*columns).where(tasks.c.job == job.id).order_by(tasks.c.variant, tasks.c.start)
    with database.connect() as connection:
        results = connection.execute(every).all()
    questions, fresh = read_pool(database, store, search)
    trained, pool = (
        _Embeddings(store, [artifact for of, artifact in results if of == variant], rows, check)
        for variant, rows in ((TRAINED, [*search.low_rows, *search.rest_rows]), (POOL, fresh))
    )
    vector_of = {row: vector for rows, vectors in trained.parts() for row, vector in zip(rows, vectors, strict=True)}
    low_rows = [row for row in search.low_rows if row in vector_of]
    if not low_rows:
        raise InputError(f"no low example could be embedded ({_told(trained.skipped(search.low_rows))})")
    low_LD = np.array([vector_of[row] for row in low_rows])
    mean_D, embedded = _mean(low_LD, pool)
    if not embedded:
        raise InputError(f"no new example of the pool could be embedded ({_told(pool.skipped(fresh))})")
    rows_N: list[int] = []

    def centred() -> Iterator[Floats]:
        for rows, vectors_ND in pool.parts():
            rows_N.extend(rows)
            yield vectors_ND - mean_D

    rest = [vector_of[row] - mean_D for row in search.rest_rows if row in vector_of]
    rest_RD = np.array(rest).reshape(len(rest), len(mean_D))
    found = acquire_in_parts(low_LD - mean_D, centred(), budget=search.asked.budget, rest_RD=rest_RD)
    notes = [
        f"{reasons.total():,} {what} could not be embedded ({_told(reasons)})"
        for what, reasons in (
            ("low examples", trained.skipped(search.low_rows)),
            ("new examples of the pool", pool.skipped(fresh)),
        )
        if reasons
    ]
    answer = answer_to(database, store, search, found, low_rows, rows_N, pool_rows=len(questions), fresh=len(fresh))
    return answer.model_copy(update={"notes": [*answer.notes, *notes]})


@dataclass(frozen=True, slots=True)
class _Embeddings:
    """What the tasks of one variant made of some rows, read anew each time: memory need not hold a whole pool."""

    store: Store
    artifacts: list[str]
    rows: list[int]
    check: Callable[[], None]

    def parts(self) -> Iterator[tuple[list[int], Floats]]:
        """Per task: those of the rows that have an embedding, in order, and the embeddings. None is empty.

        Raises InputError where the tasks differ in the width of their embeddings.
        """
        width = None
        for frame in self._frames("embedding"):
            vectors_N = frame.drop_nulls("embedding")["embedding"]
            if not len(vectors_N):
                continue
            vectors_ND = vectors_N.explode().to_numpy().reshape(len(vectors_N), -1)
            if width not in (None, vectors_ND.shape[1]):
                raise InputError("the embeddings differ in width: the checkpoint was replaced while the job ran")
            width = vectors_ND.shape[1]
            yield frame.drop_nulls("embedding")["row"].to_list(), vectors_ND

    def skipped(self, rows: list[int]) -> Counter[str]:
        """Why some of the rows have no embedding."""
        reasons: Counter[str] = Counter()
        for frame in self._frames("skipped"):
            reasons.update(frame.filter(pl.col("row").is_in(rows))["skipped"].drop_nulls().to_list())
        return reasons

    def _frames(self, column: str) -> Iterator[pl.DataFrame]:
        for artifact in self.artifacts:
            self.check()
            with self.store.open(artifact) as content:
                frame = pl.read_parquet(content, columns=["row", column])
            yield frame.filter(pl.col("row").is_in(self.rows))


def _mean(low_LD: Floats, pool: _Embeddings) -> tuple[Floats, int]:
    """Of the low examples and the candidates, and how many candidates there are."""
    total_D, count = low_LD.sum(axis=0, dtype=np.float64), 0
    for rows, vectors_ND in pool.parts():
        if vectors_ND.shape[1] != len(total_D):
            raise InputError("the embeddings differ in width: the checkpoint was replaced while the job ran")
        total_D, count = total_D + vectors_ND.sum(axis=0, dtype=np.float64), count + len(rows)
    return (total_D / (count + len(low_LD))).astype(np.float32), count


def _told(reasons: Counter[str]) -> str:
    return "; ".join(f"{count:,}: {reason}" for reason, count in reasons.most_common(3))


def read_pool(database: Database, store: Store, search: Search) -> tuple[list[str], list[int]]:
    """All questions of the pool, and the places of those that were neither trained on nor excluded by a tag.

    Raises FieldError where there is none.
    """
    questions = _questions(database, store, search.asked.pool)
    with database.connect() as connection:
        excluded = set(rows_with(connection, search.asked.pool, EXCLUDED).tolist())
    fresh = [place for place in _fresh(database, store, search.trained_on, questions) if place not in excluded]
    if not fresh:
        raise FieldError(
            "pool",
            f"is empty: each of its {len(questions):,} questions is in the training set already, or excluded by a tag",
        )
    return questions, fresh


def answer_to(
    database: Database,
    store: Store,
    search: Search,
    found: list[Candidate],
    low_rows: list[int],
    pool_rows_N: list[int],
    *,
    pool_rows: int,
    fresh: int | None = None,
) -> Acquisition:
    """`pool_rows_N`: of the candidates that were compared."""
    low = examples_at(database, store, search.trained_on, low_rows)
    asked = search.asked
    fresh = len(pool_rows_N) if fresh is None else fresh
    short = f"the pool holds {fresh:,} new examples, fewer than the budget of {asked.budget:,}: all are here"
    return Acquisition(
        lineage=search.lineage,
        pool=asked.pool,
        by=asked.by,
        low=len(low_rows),
        left_out=pool_rows - fresh,
        candidates=_replies(database, store, asked.pool, found, pool_rows_N, low, low_rows),
        notes=[*search.notes, *([short] if fresh < asked.budget else [])],
    )


def _questions(database: Database, store: Store, dataset: str) -> list[str]:
    table = pa.concat_tables(list(read_columns(database, store, dataset, "question")))
    questions: list[str] = table["question"].to_pylist()
    return questions


def _fresh(database: Database, store: Store, trained_on: str, questions: list[str]) -> list[int]:
    """Places of the questions that are not in the training set, by their words."""
    words = [_words(question) for question in questions]
    wanted = set(words)
    known: set[str] = set()
    for table in read_columns(database, store, trained_on, "question"):
        known |= wanted.intersection(map(_words, table["question"].to_pylist()))
    return [place for place, text in enumerate(words) if text not in known]


def _words(text: str) -> str:
    return " ".join(text.split())


def _replies(
    database: Database,
    store: Store,
    pool: str,
    found: list[Candidate],
    fresh: list[int],
    low: list[Example],
    low_rows: list[int],
) -> list[CandidateReply]:
    read = read_rows_at(database, store, pool, [fresh[candidate.position] for candidate in found])
    return [
        CandidateReply(
            row=row,
            id=name,
            likeness=candidate.likeness,
            similarity=min(candidate.similarity, 1.0),
            nearest=NearestExample(
                row=low_rows[candidate.nearest],
                id=low[candidate.nearest].id,
                question=low[candidate.nearest].question[:NEAREST_CHARACTERS],
            ),
            columns=json.loads(columns),
        )
        for candidate, (row, name, columns) in zip(found, read.select("row", "id", "columns").iter_rows(), strict=True)
    ]
