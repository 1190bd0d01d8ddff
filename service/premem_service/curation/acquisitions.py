"""Acquiring: out of a pool that was never trained on, the candidates most like the low examples of a job."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import Connection, insert, select, update

from premem.curation.acquisition import acquire, tfidf
from premem.errors import Conflict, InputError, NotFound
from premem.wire.curation import AcquireRequest, Acquisition
from premem.wire.jobs import Checkpoint, Job
from premem_service.curation.candidates import POOL, Search, answer_to, read_pool
from premem_service.curation.selections import Chosen, Policy, choose, lineage
from premem_service.datasets.reading import check_template
from premem_service.http.dependencies import DatabaseGiven, SettingsGiven, StoreGiven
from premem_service.http.problems import FieldError, described
from premem_service.jobs.inserting import insert_derived
from premem_service.queue.new_tasks import check_room, shard_tasks
from premem_service.queue.progress import dtype, job_reply
from premem_service.queue.states import completed, scored_checkpoints
from premem_service.scores.score_files import ScoreFiles
from premem_service.scores.traits import examples_at
from premem_service.storage.db import Database
from premem_service.storage.rows import CheckpointRow, JobRow, first_of, one_of
from premem_service.storage.tables import checkpoints, datasets, jobs, tasks

MOST_LOW = 2_000
MOST_POOL = 100_000
"""Every low example is compared with every candidate while the client waits."""
MOST_SHARD_ROWS = 1_024
"""Of a task that embeds, however many the scoring took: of 8,192 numbers each, they make 32 MiB."""

router = APIRouter(prefix="/v1/jobs", tags=["examples"])


@router.post(
    "/{job}/acquire",
    response_model=Acquisition,
    responses={
        202: {"model": Job, "description": "By embedding: workers do it; its candidates are at `Location`/candidates."},
        **described(404, 409),
    },
)
def acquire_candidates(
    job: str,
    asked: AcquireRequest,
    request: Request,
    database: DatabaseGiven,
    store: StoreGiven,
    settings: SettingsGiven,
) -> Acquisition | Response:
    """The candidates of a pool whose questions are most like those of the low examples, and which each is most like.

    Rows of the pool whose question stands word for word in the training set are left out and counted. By words the
    answer comes at once and nothing is kept; by embedding it is a job.
    """
    with database.connect() as connection:
        row = completed(connection, job)
        rows = connection.scalar(select(datasets.c.rows).where(datasets.c.id == asked.pool))
    _check_pool(row, asked.pool, rows)
    policy = Policy(policy=asked.policy, below=asked.below, above=asked.above, budget=None, seed=asked.seed)
    files: ScoreFiles = request.app.state.score_files
    chosen = choose(database, files, row, policy)
    if not chosen.selection.qualified:
        raise InputError("no example is low: there is nothing to look for; raise `below`, or take another policy")
    low_rows = chosen.row_E[chosen.selection.positions[:MOST_LOW]].tolist()
    rest_rows = _rest(chosen, seed=asked.seed)
    search = Search(row.dataset, asked, lineage(row, policy), low_rows, rest_rows, _notes(row, asked, chosen))
    questions, fresh = read_pool(database, store, search)
    if asked.by == "embedding":
        check_template(database, asked.pool, row.request.template, field="pool")
        return _posted(database, row, search, max_tasks=settings.max_tasks)
    low = examples_at(database, store, row.dataset, low_rows)
    rest = examples_at(database, store, row.dataset, rest_rows)
    low_LD, rest_RD, pool_ND = tfidf(
        [example.question for example in low],
        [example.question for example in rest],
        [questions[place] for place in fresh],
    )
    found = acquire(low_LD, pool_ND, budget=asked.budget, rest_RD=rest_RD)
    return answer_to(database, store, search, found, low_rows, fresh, pool_rows=len(questions))


@router.get("/{job}/candidates", responses=described(404, 409))
def get_candidates(job: str, database: DatabaseGiven, store: StoreGiven) -> Acquisition:
    """What a job that acquires by embedding found."""
    with database.connect() as connection:
        row = first_of(JobRow, connection, select(jobs).where(jobs.c.id == job))
    if row is None:
        raise NotFound(f"there is no job {job}")
    if row.kind != "acquire":
        raise Conflict(f"job {job} acquires nothing; `…/acquire` starts one that does")
    if row.state != "completed":
        raise Conflict(f"job {job} is {row.state}; it has candidates once it is completed")
    return Acquisition.model_validate_json(store.get(row.scores))


# By embedding


def _posted(database: Database, parent: JobRow, search: Search, *, max_tasks: int) -> Response:
    """The new job, accepted."""
    if parent.recorded is not None:
        raise Conflict(f"job {parent.id} was imported: its checkpoints are not here; acquire by tfidf")
    with database.begin() as connection:
        job = _insert(connection, parent, search, max_tasks=max_tasks)
        reply = job_reply(connection, job.id)
    headers = {"Location": f"/v1/jobs/{reply.id}", "Retry-After": "1"}
    return JSONResponse(reply.model_dump(mode="json"), status_code=202, headers=headers)


def _insert(connection: Connection, parent: JobRow, search: Search, *, max_tasks: int) -> JobRow:
    (*_, (position, _)) = connection.execute(scored_checkpoints(parent.id)).all()
    of_parent = select(checkpoints).where(checkpoints.c.job == parent.id, checkpoints.c.position == position)
    last = replace(one_of(CheckpointRow, connection, of_parent), position=0)
    job = insert_derived(
        connection,
        parent,
        kind="acquire",
        checkpoints=[Checkpoint(path=last.path, name=last.name)],
        dataset=search.asked.pool,
        test_dataset=None,
        perturbations=[],
        dtype=dtype(parent),
        shard_rows=min(parent.request.shard_rows, MOST_SHARD_ROWS),
    )
    kept = job.request.model_dump(mode="json", exclude={"checkpoints"}) | {"acquire": search.as_json()}
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(request=kept))
    connection.execute(insert(checkpoints), [{**asdict(last), "job": job.id}])
    rows = {of: connection.scalar(select(datasets.c.rows).where(datasets.c.id == of)) or 0 for of in _both(search)}
    check_room(connection, job, list(rows.values()), max_tasks=max_tasks)
    shard = job.request.shard_rows
    held = {row // shard for row in search.low_rows}
    connection.execute(
        insert(tasks),
        [
            task
            for variant, (of, count) in enumerate(rows.items())
            for task in shard_tasks(job, last, kind="embed", dataset=of, rows=count, variant=variant)
            # Of the training set only what holds a low example; the rest in there is what it is told from.
            if variant == POOL or task["start"] // shard in held
        ],
    )
    return job


def _both(search: Search) -> tuple[str, str]:
    """The data sets, in the order of the variants TRAINED and POOL."""
    return search.trained_on, search.asked.pool


# Either way


def _check_pool(job: JobRow, pool: str, rows: int | None) -> None:
    if rows is None:
        raise FieldError("pool", f"there is no data set {pool!r}: upload it to /v1/datasets first")
    if pool == job.dataset:
        raise FieldError("pool", "is what the job was trained on: name a data set of examples that were not")
    if rows > MOST_POOL:
        raise FieldError("pool", f"has {rows:,} rows; at most {MOST_POOL:,} can be looked through at once: split it")


def _rest(chosen: Chosen, *, seed: int) -> list[int]:
    """Rows of the scored examples that no policy chose: all, or a draw of as many as are looked at."""
    low_E = np.zeros(len(chosen.row_E), dtype=bool)
    low_E[chosen.selection.positions] = True
    rest = chosen.row_E[~low_E]
    if len(rest) > MOST_LOW:
        rest = np.sort(np.random.default_rng([seed, 3]).choice(rest, MOST_LOW, replace=False))
    found: list[int] = rest.tolist()
    return found


def _notes(job: JobRow, request: AcquireRequest, chosen: Chosen) -> list[str]:
    notes = chosen.notes
    if chosen.selection.qualified > MOST_LOW:
        notes.append(f"compared with the first {MOST_LOW:,} of {chosen.selection.qualified:,} low examples")
    if request.pool == job.test_dataset:
        notes.append("the pool is the job's test set: once its rows are trained on, it measures nothing any more")
    return notes
