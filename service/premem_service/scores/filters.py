"""Which of a job's ranked examples are wanted, and in which order.

Shapes: R examples in the order of their ranks, F of them that are wanted, in the order that was asked for.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import astuple, dataclass, fields
from typing import Annotated, Literal

import numpy as np
import polars as pl
import pyarrow as pa
from fastapi import Depends, Query
from numpy.typing import NDArray
from pydantic import Field

from premem.wire.examples import Sort
from premem.wire.tags import TAG_PATTERN
from premem_service.datasets.reading import read_columns
from premem_service.http.problems import FieldError
from premem_service.scores.score_files import Scores
from premem_service.storage.db import Database
from premem_service.storage.store import Store

Floats = NDArray[np.float64]
Ranks = NDArray[np.uint32]
REMEMBERED_BYTES = 64 * 2**20
"""Of lists of ranks that were asked for lately: 4 bytes per example."""

Share = Annotated[float | None, Field(ge=0.0, le=1.0)]
Perplexity = Annotated[float | None, Field(ge=1.0, allow_inf_nan=False)]
Tag = Annotated[str | None, Field(pattern=TAG_PATTERN)]


@dataclass(frozen=True, slots=True)
class Filter:
    """What is wanted, as the query says; what is absent filters nothing. Tags stand apart: they change."""

    above: Annotated[Share, Query(description="Score, inclusive.")] = None
    below: Annotated[Share, Query(description="Score, exclusive.")] = None
    interval_above: Annotated[Share, Query(description="The lower end of the score's 90% interval, inclusive.")] = None
    interval_below: Annotated[Share, Query(description="Its upper end, exclusive.")] = None
    perplexity_above: Annotated[
        Perplexity, Query(description="Perplexity of the reference at the last checkpoint, inclusive.")
    ] = None
    perplexity_below: Annotated[Perplexity, Query(description="The same, exclusive.")] = None
    memorized: Annotated[bool | None, Query(description="At some checkpoint, or at none.")] = None
    memorized_at: Annotated[str | None, Query(max_length=200, description="The first checkpoint at which it was.")] = (
        None
    )
    search: Annotated[
        str | None, Query(min_length=1, max_length=500, description="Stands in the question, in capitals or not.")
    ] = None
    sort: Annotated[
        Sort,
        Query(
            description="rank: the score, ties as in the report; perplexity and last_accuracy: at the last checkpoint; "
            "interval: how wide it is. Ties come by rank, what was not drawn last."
        ),
    ] = "rank"
    order: Annotated[Literal["ascending", "descending"], Query()] = "ascending"

    @property
    def is_plain(self) -> bool:
        """Everything, by rank."""
        return all(getattr(self, field.name) == field.default for field in fields(self))


@dataclass(frozen=True, slots=True)
class TagFilter:
    tag: Annotated[Tag, Query(description="Only what has this tag.")] = None
    without_tag: Annotated[Tag, Query(description="Only what has not.")] = None


FilterGiven = Annotated[Filter, Depends()]
TagFilterGiven = Annotated[TagFilter, Depends()]


class Filtered:
    """The ranks that filters found lately: files of scores never change."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[object, ...], tuple[Ranks, Ranks]] = OrderedDict()
        self._lock = threading.Lock()

    def ranks(
        self,
        database: Database,
        store: Store,
        scores: Scores,
        artifact: str,
        dataset: str,
        names: list[str],
        wanted: Filter,
    ) -> tuple[Ranks, Ranks]:
        """rank_F and row_F. Raises FieldError for a checkpoint that is none of the job's, ArtifactLost, StoreError."""
        key = (artifact, *astuple(wanted))
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        found = _ranks(database, store, scores, dataset, names, wanted)
        with self._lock:
            self._known[key] = found
            while sum(rank_F.nbytes + row_F.nbytes for rank_F, row_F in self._known.values()) > REMEMBERED_BYTES:
                self._known.popitem(last=False)
        return found


def _ranks(
    database: Database, store: Store, scores: Scores, dataset: str, names: list[str], wanted: Filter
) -> tuple[Ranks, Ranks]:
    if wanted.memorized_at is not None and wanted.memorized_at not in names:
        raise FieldError(
            "memorized_at", f"there is no checkpoint {wanted.memorized_at!r}: the job has {', '.join(names)}"
        )
    row_R = scores.columns("row")["row"].to_numpy()
    wanted_R = np.ones(scores.rows, dtype=bool)
    for column, least, under in (
        ("score", wanted.above, wanted.below),
        ("low", wanted.interval_above, None),
        ("high", None, wanted.interval_below),
        ("perplexity", wanted.perplexity_above, wanted.perplexity_below),
    ):
        if least is not None or under is not None:
            value_R = _last(scores, column) if column == "perplexity" else _numbers(scores, column)
            wanted_R &= (value_R >= (-np.inf if least is None else least)) & (
                value_R < (np.inf if under is None else under)
            )
    if wanted.memorized is not None or wanted.memorized_at is not None:
        first_R = _memorized_at(scores)
        if wanted.memorized is not None:
            wanted_R &= (first_R < len(names)) == wanted.memorized
        if wanted.memorized_at is not None:
            wanted_R &= first_R == names.index(wanted.memorized_at)
    if wanted.search is not None:
        wanted_R &= _holding(database, store, dataset, wanted.search)[row_R]
    rank_F = np.flatnonzero(wanted_R)
    if wanted.sort != "rank":
        key_F = _key(scores, wanted.sort, row_R)[rank_F]
        # Stable, so that ties stay by rank; NaN goes last either way.
        rank_F = rank_F[np.argsort(key_F if wanted.order == "ascending" else -key_F, kind="stable")]
    elif wanted.order == "descending":
        rank_F = rank_F[::-1]
    return rank_F.astype(np.uint32), row_R[rank_F].astype(np.uint32)


def _key(scores: Scores, sort: Sort, row_R: NDArray[np.int64]) -> Floats:
    if sort == "row":
        return row_R.astype(np.float64)
    if sort == "mean_accuracy":
        return _numbers(scores, "mean_accuracy")
    if sort == "interval":
        return _numbers(scores, "high") - _numbers(scores, "low")
    if sort == "memorized_at":
        return _memorized_at(scores).astype(np.float64)
    return _last(scores, "accuracy" if sort == "last_accuracy" else "perplexity")


def _numbers(scores: Scores, name: str) -> Floats:
    """NaN where there is none."""
    found: Floats = scores.columns(name)[name].to_numpy().astype(np.float64)
    return found


def _last(scores: Scores, name: str) -> Floats:
    """At the last checkpoint, of a column that has a value for each."""
    column = scores.columns(name)[name].combine_chunks()
    value_RC = column.flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(len(column), -1)
    last_R: Floats = value_RC[:, -1]
    return last_R


def _memorized_at(scores: Scores) -> NDArray[np.int64]:
    """Position of the first checkpoint at which each example was memorized; how many there are where it never was."""
    column: pa.ListArray = scores.columns("memorized")["memorized"].combine_chunks()
    was_RC = column.flatten().fill_null(False).to_numpy(zero_copy_only=False).reshape(len(column), -1).astype(bool)
    first_R: NDArray[np.int64] = np.where(was_RC.any(axis=1), was_RC.argmax(axis=1), was_RC.shape[1])
    return first_R


def _holding(database: Database, store: Store, dataset: str, text: str) -> NDArray[np.bool_]:
    """Per row of the data set, whether its whole question holds a text."""
    pattern = "(?i)" + pl.escape_regex(text)
    found = [
        pl.Series(pl.from_arrow(table["question"])).str.contains(pattern).to_numpy()
        for table in read_columns(database, store, dataset, "question")
    ]
    return np.concatenate(found)
