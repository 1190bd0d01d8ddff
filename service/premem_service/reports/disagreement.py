"""Where two graders disagree about the same answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import polars as pl
from sqlalchemy import Connection, select

from premem.wire.bodies import GraderChoice
from premem.wire.reports import DisagreementReply, RegradeReply, VerdictCount
from premem_service.storage.rows import JobRow, RegradedRow, all_of, one_of
from premem_service.storage.store import Store
from premem_service.storage.tables import checkpoints, jobs, tasks

SHOWN = 20
SHOWN_CHARACTERS = 300


def regraded_results(connection: Connection, job: str) -> list[RegradedRow]:
    """Every task that was graded anew, with its checkpoint's name, in order."""
    done = (
        select(tasks.c.kind, tasks.c.start, tasks.c.artifact, tasks.c.source, checkpoints.c.name)
        .join(checkpoints, (checkpoints.c.job == tasks.c.job) & (checkpoints.c.position == tasks.c.checkpoint))
        .where(tasks.c.job == job, tasks.c.state == "completed", tasks.c.source.is_not(None))
        .order_by(tasks.c.checkpoint, tasks.c.kind, tasks.c.variant, tasks.c.start)
    )
    return all_of(RegradedRow, connection, done)


def grader_of(connection: Connection, job: str) -> GraderChoice:
    return one_of(JobRow, connection, select(jobs).where(jobs.c.id == job)).request.grader


def disagreement(
    store: Store,
    results: list[RegradedRow],
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
        then, now = (_answers(store, artifact) for artifact in (task.source, task.artifact))
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


def _shown(task: RegradedRow, record: dict[str, object]) -> DisagreementReply:
    return DisagreementReply.model_validate(
        {
            "checkpoint": task.name,
            "kind": task.kind,
            "row": record["row"],
            "sample": record["sample"],
            "text": record["texts"],
            "before": record["verdicts"],
            "before_extracted": record["extracted"],
            "after": record["after"],
            "after_extracted": record["after_extracted"],
        }
    )
