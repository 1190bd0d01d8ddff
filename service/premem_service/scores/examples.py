"""Scored examples: ranked pages out of the file of scores, and one example with its answers."""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
from fastapi import APIRouter, Path, Query, Request
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from premem.errors import NotFound
from premem.wire.examples import (
    AnswerReply,
    CheckpointAnswers,
    ExampleDetail,
    ExamplePage,
    IntervalReply,
    ScoredExample,
)
from premem_service.datasets.reading import read_rows_at
from premem_service.datasets.tags import rows_with, tags_at
from premem_service.http import cursors
from premem_service.http.dependencies import Cursor, DatabaseGiven, Limit, StoreGiven
from premem_service.http.problems import FieldError, described
from premem_service.queue.progress import threshold_reply
from premem_service.queue.states import completed
from premem_service.scores.filters import Filtered, FilterGiven, TagFilter, TagFilterGiven
from premem_service.scores.score_files import ScoreFiles
from premem_service.storage.db import Database
from premem_service.storage.store import Store
from premem_service.storage.tables import checkpoints, datasets, tasks

router = APIRouter(prefix="/v1/jobs", tags=["examples"])


@router.get("/{job}/examples", responses=described(404, 409))
def list_examples(
    job: str,
    request: Request,
    database: DatabaseGiven,
    store: StoreGiven,
    asked: FilterGiven,
    tagged: TagFilterGiven,
    cursor: Cursor = None,
    start: Annotated[int, Query(ge=0, lt=2**53, description="Wanted examples to skip; instead of a cursor.")] = 0,
    limit: Limit = 50,
) -> ExamplePage:
    """The training examples from the lowest pre-memorization accuracy to the highest, or those that a filter wants.

    `total` counts what is wanted. Tags may change from page to page; a cursor then neither skips nor repeats an example.
    """
    with database.connect() as connection:
        row = completed(connection, job)
    names = [line.checkpoint for line in row.found.checkpoints]
    of = f"examples {job}" if asked.is_plain else f"examples {job} {astuple(asked)}"
    place = cursors.decode(cursor, of=of)
    if place is not None and start:
        raise FieldError("start", "goes without a cursor: give one of the two")
    files: ScoreFiles = request.app.state.score_files
    with files.open(row.scores) as scores:
        if asked.is_plain and tagged == TagFilter():
            place, total = place or start, scores.rows
            records = scores.slice(place, place + limit).to_pylist()
            after = place + len(records)
            more = after < total
        else:
            filtered: Filtered = request.app.state.filtered
            rank_F, row_F = filtered.ranks(database, store, scores, row.scores, row.dataset, names, asked)
            wanted = _wanted(database, row.dataset, row_F, tagged)
            first = start if place is None else int(np.searchsorted(wanted, place))
            places, total = wanted[first : first + limit], len(wanted)
            records = scores.at(rank_F[places]).to_pylist()
            more = first + limit < total
            after = int(places[-1]) + 1 if len(places) else 0
    with database.connect() as connection:
        tags = tags_at(connection, row.dataset, [record["row"] for record in records])
    return ExamplePage(
        items=[ScoredExample(**_scored(record, names), tags=tags.get(record["row"], [])) for record in records],
        checkpoints=names,
        threshold=threshold_reply(row),
        total=total,
        next_cursor=cursors.encode(after, of=of) if more else None,
    )


def _wanted(database: Database, dataset: str, row_F: NDArray[np.uint32], tagged: TagFilter) -> NDArray[np.int64]:
    """Places in the filtered list, which tags do not change: cursors are places there."""
    wanted_F = np.ones(len(row_F), dtype=bool)
    with database.connect() as connection:
        if tagged.tag is not None:
            wanted_F &= np.isin(row_F, rows_with(connection, dataset, tagged.tag))
        if tagged.without_tag is not None:
            wanted_F &= ~np.isin(row_F, rows_with(connection, dataset, tagged.without_tag))
    return np.flatnonzero(wanted_F)


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
        names = [line.checkpoint for line in completed_job.found.checkpoints]
        artifacts = _artifacts(connection, job, row, names)
        rows = connection.scalar(select(datasets.c.rows).where(datasets.c.id == completed_job.dataset)) or 0
        tags = tags_at(connection, completed_job.dataset, [row]).get(row, [])
    if row >= rows:
        raise NotFound(f"job {job} has no example {row}: its data set has {rows:,} rows")
    files: ScoreFiles = request.app.state.score_files
    with files.open(completed_job.scores) as scores:
        rank = scores.rank_of(row)
        record = None if rank is None else _scored(scores.slice(rank, rank + 1).to_pylist()[0], names)
    recorded = completed_job.recorded is not None
    if record is None and recorded:
        raise NotFound(f"example {row} has no score: the run was not trained on it")
    results = [_NOT_RECORDED if recorded else _result_of(store, artifacts[name], row) for name in names]
    if record is None:
        reasons = sorted({result["skipped"] for result in results if result["skipped"] is not None})
        raise NotFound(f"example {row} has no score; it was skipped: {'; '.join(reasons)}")
    original = read_rows_at(database, store, completed_job.dataset, [row]).row(0, named=True)
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


def _scored(record: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """A line of the file of scores as a ScoredExample."""
    record["pre_memorization_accuracy"] = record.pop("score")
    record["last_accuracy"] = record["accuracy"][-1]
    record["memorized_at"] = next((name for name, was in zip(names, record["memorized"], strict=True) if was), None)
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
_NOT_RECORDED: dict[str, Any] = {name: [] for name in ANSWERS}
"""Whoever recorded the run kept how many answers were right, and not the answers."""


def _answers(name: str, result: dict[str, Any], record: dict[str, Any], place: int) -> CheckpointAnswers:
    answers = zip(*(result[name] for name in ANSWERS), strict=True)
    return CheckpointAnswers(
        checkpoint=name,
        perplexity=record["perplexity"][place],
        memorized=record["memorized"][place],
        accuracy=record["accuracy"][place],
        copied=record["copied"][place],
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
