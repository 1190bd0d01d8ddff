"""Grading the answers of a completed job anew: a job of its own, whose tasks need no engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import polars as pl
from fastapi import APIRouter, Response
from sqlalchemy import Connection, RowMapping, insert, select

from premem.wire.bodies import GraderChoice, Job
from premem.wire.reports import DisagreementReply, RegradeReply, RegradeRequest, VerdictCount
from premem_service.http.dependencies import DatabaseGiven, SettingsGiven
from premem_service.http.problems import FieldError, described
from premem_service.jobs.checkpoints import new_task
from premem_service.jobs.routes import check_answers_are_here, insert_going_on
from premem_service.queue import draws, states
from premem_service.queue.progress import job_reply
from premem_service.scores.examples import completed
from premem_service.storage.store import Store
from premem_service.storage.tables import checkpoints, jobs, tasks

SHOWN = 20
SHOWN_CHARACTERS = 300

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post("/{job}/regrade", status_code=202, responses=described(404, 409))
def post_regrade(
    job: str, request: RegradeRequest, response: Response, database: DatabaseGiven, settings: SettingsGiven
) -> Job:
    """Grade the stored answers of a completed job with another grader: a new job, for any worker, with or without an engine.

    It has a ranking, a subset and a report like any other, and the report says where the two graders disagree. Of a job
    that drew only what its scores needed, the new verdicts may need answers that nobody drew: those take an engine.
    """
    with database.begin() as connection:
        parent = completed(connection, job)
        made = _insert(connection, parent, request, max_tasks=settings.max_tasks)
        reply = job_reply(connection, made["id"])
    response.headers["Location"] = f"/v1/jobs/{reply.id}"
    response.headers["Retry-After"] = "1"
    return reply


def _insert(connection: Connection, parent: RowMapping, request: RegradeRequest, *, max_tasks: int) -> RowMapping:
    check_answers_are_here(parent)
    if request.grader == GraderChoice.model_validate(parent["request"]["grader"]):
        raise FieldError("grader", f"is the one that graded job {parent['id']} already: name another, or other options")
    job, answered = insert_going_on(connection, parent, kind="regrade", name=request.name, grader=request.grader)
    same = ("kind", "variant", "turn", "plan", "dataset", "start", "stop")
    connection.execute(
        insert(tasks),
        [
            new_task(
                job,
                {"position": task["checkpoint"], "path": task["checkpoint_path"]},
                **{name: task[name] for name in same},
                **(states.kept(task) if task["kind"] == "perplexity" else {"source": task["artifact"]}),
            )
            for task in answered
        ],
    )
    if states.is_planned(job):  # another grader may need answers that the first one did not
        draws.add_plans(connection, job, max_tasks=max_tasks)
    return job


# For the report


def regraded_results(connection: Connection, job: str) -> list[RowMapping]:
    """Every task that was graded anew, with its checkpoint's name, in order."""
    done = (
        select(tasks.c.kind, tasks.c.start, tasks.c.artifact, tasks.c.source, checkpoints.c.name)
        .join(checkpoints, (checkpoints.c.job == tasks.c.job) & (checkpoints.c.position == tasks.c.checkpoint))
        .where(tasks.c.job == job, tasks.c.state == "completed", tasks.c.source.is_not(None))
        .order_by(tasks.c.checkpoint, tasks.c.kind, tasks.c.variant, tasks.c.start)
    )
    return list(connection.execute(done).mappings().all())


def grader_of(connection: Connection, job: str) -> GraderChoice:
    request = connection.execute(select(jobs.c.request).where(jobs.c.id == job)).scalar_one()
    return GraderChoice.model_validate(request["grader"])


def disagreement(
    store: Store,
    results: list[RowMapping],
    *,
    of: str,
    before: GraderChoice,
    after: GraderChoice,
    check: Callable[[], None],
) -> RegradeReply:
    """Of the two graders, over all answers that both saw. Raises ArtifactLost, StoreError."""
    counts: Counter[tuple[str, str]] = Counter()
    shown: list[DisagreementReply] = []
    for task in results:
        check()
        then, now = (_answers(store, task[name]) for name in ("source", "artifact"))
        both = then.with_columns(after=now["verdicts"], after_extracted=now["extracted"])
        for was, became, number in both.group_by("verdicts", "after").len().iter_rows():
            counts[was, became] += number
        if len(shown) < SHOWN:
            differing = both.filter(pl.col("verdicts") != pl.col("after")).head(SHOWN - len(shown))
            shown += [_shown(task, record) for record in differing.to_dicts()]
    return RegradeReply(
        of=of,
        before=before,
        after=after,
        answers=counts.total(),
        disagreements=sum(number for (was, became), number in counts.items() if was != became),
        table=[
            VerdictCount(before=was, after=became, answers=number) for (was, became), number in sorted(counts.items())
        ],
        examples=shown,
    )


def _answers(store: Store, artifact: str) -> pl.DataFrame:
    """One line per answer: row, sample, texts (the end of it), verdicts, extracted."""
    with store.open(artifact) as content:
        frame = pl.read_parquet(content, columns=["row", "texts", "verdicts", "extracted"])
    frame = frame.with_columns(sample=pl.int_ranges(pl.col("verdicts").list.len()))
    frame = frame.filter(pl.col("verdicts").list.len() > 0).explode("texts", "verdicts", "extracted", "sample")
    return frame.with_columns(pl.col("texts").str.tail(SHOWN_CHARACTERS))


def _shown(task: RowMapping, record: dict[str, object]) -> DisagreementReply:
    return DisagreementReply.model_validate(
        {
            "checkpoint": task["name"],
            "kind": task["kind"],
            "row": record["row"],
            "sample": record["sample"],
            "text": record["texts"],
            "before": record["verdicts"],
            "before_extracted": record["extracted"],
            "after": record["after"],
            "after_extracted": record["after_extracted"],
        }
    )
