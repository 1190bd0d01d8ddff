"""Acquiring: out of a pool that was never trained on, the candidates most like the low examples of a job."""

from __future__ import annotations

import json

import pyarrow as pa
from fastapi import APIRouter, Request
from sqlalchemy import RowMapping, select

from premem.acquisition import Candidate, acquire, tfidf
from premem.errors import InputError
from premem.records import Example
from premem.wire_curation import AcquireRequest, Acquisition, CandidateReply, NearestExample
from service.datasets import read_columns, read_rows_at
from service.db import Database
from service.dependencies import DatabaseGiven, StoreGiven
from service.examples import ScoreFiles, completed
from service.problems import FieldError, described
from service.scores import SNIPPET_CHARACTERS
from service.selections import Chosen, Policy, choose, examples_at, lineage
from service.store import Store
from service.tables import datasets

MOST_LOW = 2_000
MOST_POOL = 100_000
"""Every low example is compared with every candidate while the client waits."""

router = APIRouter(prefix="/v1/jobs", tags=["examples"])


@router.post("/{job}/acquire", responses=described(404, 409))
def acquire_candidates(
    job: str, asked: AcquireRequest, request: Request, database: DatabaseGiven, store: StoreGiven
) -> Acquisition:
    """The candidates of a pool whose questions are most like those of the low examples, and which each is most like.

    Rows of the pool whose question stands word for word in the training set are left out and counted. Nothing is kept.
    """
    with database.connect() as connection:
        row = completed(connection, job)
        rows = connection.scalar(select(datasets.c.rows).where(datasets.c.id == asked.pool))
    _check_pool(row, asked.pool, rows)
    policy = Policy(policy=asked.policy, below=asked.below, above=asked.above, budget=None, seed=asked.seed)
    files: ScoreFiles = request.app.state.score_files
    chosen = choose(files, row, policy)
    if not chosen.selection.qualified:
        raise InputError("no example is low: there is nothing to look for; raise `below`, or take another policy")
    low_rows = chosen.row_E[chosen.selection.positions[:MOST_LOW]]
    low = examples_at(database, store, row["dataset"], low_rows)
    questions = _questions(database, store, asked.pool)
    fresh = _fresh(database, store, row["dataset"], questions)
    if not fresh:
        raise FieldError("pool", f"is empty: each of its {len(questions):,} questions is in the training set already")
    low_LD, pool_ND = tfidf([example.question for example in low], [questions[place] for place in fresh])
    found = acquire(low_LD, pool_ND, budget=asked.budget)
    return Acquisition(
        lineage=lineage(row, policy),
        pool=asked.pool,
        by=asked.by,
        low=len(low),
        left_out=len(questions) - len(fresh),
        candidates=_replies(database, store, asked.pool, found, fresh, low, low_rows.tolist()),
        notes=_notes(row, asked, chosen, len(fresh)),
    )


def _check_pool(job: RowMapping, pool: str, rows: int | None) -> None:
    if rows is None:
        raise FieldError("pool", f"there is no data set {pool!r}: upload it to /v1/datasets first")
    if pool == job["dataset"]:
        raise FieldError("pool", "is what the job was trained on: name a data set of examples that were not")
    if rows > MOST_POOL:
        raise FieldError("pool", f"has {rows:,} rows; at most {MOST_POOL:,} can be looked through at once: split it")


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


def _notes(job: RowMapping, asked: AcquireRequest, chosen: Chosen, fresh: int) -> list[str]:
    notes = list(chosen.selection.notes)
    if chosen.selection.qualified > MOST_LOW:
        notes.append(f"compared with the first {MOST_LOW:,} of {chosen.selection.qualified:,} low examples")
    if fresh < asked.budget:
        notes.append(f"the pool holds {fresh:,} new examples, fewer than the budget of {asked.budget:,}: all are here")
    if asked.pool == job["test_dataset"]:
        notes.append("the pool is the job's test set: once its rows are trained on, it measures nothing any more")
    return notes


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
            similarity=min(candidate.similarity, 1.0),
            nearest=NearestExample(
                row=low_rows[candidate.nearest],
                id=low[candidate.nearest].id,
                question=low[candidate.nearest].question[:SNIPPET_CHARACTERS],
            ),
            columns=json.loads(columns),
        )
        for candidate, (row, name, columns) in zip(found, read.select("row", "id", "columns").iter_rows(), strict=True)
    ]
