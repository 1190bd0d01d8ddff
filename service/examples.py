"""Scored examples: ranked pages out of the file of scores, and one example with its answers."""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import APIRouter, Path, Request
from numpy.typing import NDArray
from sqlalchemy import Connection, RowMapping, select

from premem.errors import Conflict, NotFound
from premem.wire import AnswerReply, CheckpointAnswers, ExampleDetail, ExamplePage, IntervalReply, ScoredExample
from service import cursors
from service.datasets import read_rows_at
from service.dependencies import Cursor, DatabaseGiven, Limit, StoreGiven
from service.problems import described
from service.progress import threshold_reply
from service.store import Store
from service.tables import checkpoints, datasets, jobs, tasks
from service.tags import tags_at

REMEMBERED_FILES = 64

router = APIRouter(prefix="/v1/jobs", tags=["examples"])


@router.get("/{job}/examples", responses=described(404, 409))
def list_examples(
    job: str, request: Request, database: DatabaseGiven, store: StoreGiven, cursor: Cursor = None, limit: Limit = 50
) -> ExamplePage:
    """The training examples from the lowest pre-memorization accuracy to the highest."""
    first = cursors.decode(cursor, of=f"examples {job}") or 0
    with database.connect() as connection:
        row = completed(connection, job)
    names = [line["checkpoint"] for line in row["report"]["checkpoints"]]
    files: ScoreFiles = request.app.state.score_files
    with files.open(row["scores_artifact"]) as scores:
        total = scores.rows
        records = scores.slice(first, first + limit).to_pylist()
    last = first + len(records)
    with database.connect() as connection:
        tags = tags_at(connection, row["dataset"], [record["row"] for record in records])
    return ExamplePage(
        items=[ScoredExample(**_scored(record, names), tags=tags.get(record["row"], [])) for record in records],
        checkpoints=names,
        threshold=threshold_reply(row),
        total=total,
        next_cursor=cursors.encode(last, of=f"examples {job}") if last < total else None,
    )


@router.get("/{job}/examples/{row}", responses=described(404, 409))
def get_example(
    job: str,
    row: Annotated[int, Path(ge=0, lt=2**53, description="Position in the data set, from 0.")],
    request: Request,
    database: DatabaseGiven,
    store: StoreGiven,
) -> ExampleDetail:
    """One training example with every answer that was sampled for it."""
    with database.connect() as connection:
        completed_job = completed(connection, job)
        names = [line["checkpoint"] for line in completed_job["report"]["checkpoints"]]
        artifacts = _artifacts(connection, job, row, names)
        rows = connection.scalar(select(datasets.c.rows).where(datasets.c.id == completed_job["dataset"])) or 0
        tags = tags_at(connection, completed_job["dataset"], [row]).get(row, [])
    if row >= rows:
        raise NotFound(f"job {job} has no example {row}: its data set has {rows:,} rows")
    files: ScoreFiles = request.app.state.score_files
    with files.open(completed_job["scores_artifact"]) as scores:
        rank = scores.rank_of(row)
        record = None if rank is None else _scored(scores.slice(rank, rank + 1).to_pylist()[0], names)
    recorded = completed_job["recorded"] is not None
    if record is None and recorded:
        raise NotFound(f"example {row} has no score: the run was not trained on it")
    results = [_NOT_RECORDED if recorded else _result_of(store, artifacts[name], row) for name in names]
    if record is None:
        reasons = sorted({result["skipped"] for result in results if result["skipped"] is not None})
        raise NotFound(f"example {row} has no score; it was skipped: {'; '.join(reasons)}")
    original = read_rows_at(database, store, completed_job["dataset"], [row]).row(0, named=True)
    return ExampleDetail(
        **{**record, "question": original["question"], "tags": tags},
        trace=original["trace"],
        final_answer=original["final_answer"],
        columns=json.loads(original["columns"]),
        checkpoints=[
            _answers(name, result, record, place)
            for place, (name, result) in enumerate(zip(names, results, strict=True))
        ],
        threshold=threshold_reply(completed_job),
    )


def completed(connection: Connection, job: str) -> RowMapping:
    """The job. Raises NotFound, and Conflict where it has no scores."""
    row = connection.execute(select(jobs).where(jobs.c.id == job)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job}")
    if row["kind"] == "acquire":
        raise Conflict(f"job {job} acquires examples and scores none; it has `…/candidates`")
    if row["state"] != "completed":
        raise Conflict(f"job {job} is {row['state']}; it has scores once it is completed")
    return row


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

    def at(self, ranks: NDArray[np.int64], *, columns: list[str]) -> pa.Table:
        """Some ranks, in their order, reading only the row groups that hold them."""
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


def _scored(record: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """A line of the file of scores as a ScoredExample."""
    record["pre_memorization_accuracy"] = record.pop("score")
    record["last_accuracy"] = record["accuracy"][-1]
    record["memorized_at"] = next((name for name, was in zip(names, record["memorized"], strict=True) if was), None)
    if "low" in record:  # not in the files of an older service
        record["interval"] = IntervalReply(low=record.pop("low"), high=record.pop("high"))
    return record


def _artifacts(connection: Connection, job: str, row: int, names: list[str]) -> dict[str, list[str]]:
    """Of the results that may hold a training row, by checkpoint: its perplexity first, then the draws in their order."""
    held = (
        select(checkpoints.c.name, tasks.c.artifact)
        .join(checkpoints, (checkpoints.c.job == tasks.c.job) & (checkpoints.c.position == tasks.c.checkpoint))
        .where(
            tasks.c.job == job,
            tasks.c.kind.in_(("train", "perplexity", "draw")),
            tasks.c.state == "completed",
            tasks.c.start <= row,
            tasks.c.stop > row,
            checkpoints.c.name.in_(names),
        )
        .order_by(tasks.c.kind == "draw", tasks.c.variant)
    )
    found: dict[str, list[str]] = {name: [] for name in names}
    for name, artifact in connection.execute(held).all():
        found[name].append(artifact)
    return found


def _result_of(store: Store, artifacts: list[str], row: int) -> dict[str, Any]:
    """One row of the results, with its texts: the last answers that were drawn beside the perplexity."""
    first, *draws = artifacts
    result = _row_of(store, first, row)
    if result is None:
        raise NotFound(f"the result {first} does not hold row {row}")
    for artifact in draws:
        drawn = _row_of(store, artifact, row)
        if drawn is not None:
            result |= {name: drawn[name] for name in ANSWERS}
    return result


def _row_of(store: Store, artifact: str, row: int) -> dict[str, Any] | None:
    """Only its row group is read."""
    with store.open(artifact) as content, pq.ParquetFile(content) as file:
        for group in range(file.metadata.num_row_groups):
            statistics = file.metadata.row_group(group).column(0).statistics
            if statistics is None or not statistics.has_min_max or statistics.min <= row <= statistics.max:
                table = file.read_row_group(group)
                places = np.flatnonzero(table["row"].to_numpy() == row)
                if places.size:
                    return dict(table.slice(int(places[0]), 1).to_pylist()[0])
    return None


ANSWERS = ("texts", "verdicts", "extracted", "tokens", "finished", "similarities")
_NOT_RECORDED: dict[str, Any] = {"texts": [], "verdicts": [], "extracted": [], "tokens": [], "finished": []}
"""Whoever recorded the run kept how many answers were right, and not the answers."""


def _answers(name: str, result: dict[str, Any], record: dict[str, Any], place: int) -> CheckpointAnswers:
    fields = ("texts", "verdicts", "extracted", "tokens", "finished")
    similarities = result.get("similarities") or [None] * len(result["texts"])
    answers = zip(*(result[name] for name in fields), similarities, strict=True)
    return CheckpointAnswers(
        checkpoint=name,
        perplexity=record["perplexity"][place],
        memorized=record["memorized"][place],
        accuracy=record["accuracy"][place],
        copied=record["copied"][place] if record.get("copied") else None,
        answers=[
            AnswerReply(
                text=text,
                verdict=verdict,
                extracted=extracted,
                tokens=tokens,
                finished=finished,
                similarity=similarity,
            )
            for text, verdict, extracted, tokens, finished, similarity in answers
        ],
    )
