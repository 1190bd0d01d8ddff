"""What became of a run since the round before: the same examples then and now, and those that were added."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from sqlalchemy import Connection, select

from premem.method.uncertainty import mean_interval
from premem.wire.examples import IntervalReply
from premem.wire.reports import ChangesReply, JobReport
from premem_service.datasets.reading import read_columns
from premem_service.scores.observations import Floats
from premem_service.storage.db import Database
from premem_service.storage.rows import JobRow, first_of
from premem_service.storage.store import Store
from premem_service.storage.tables import jobs

LOW = 0.5
"""Below it an example counts as low, as it does by default in a curated subset."""
COMPARED = {"sampling": "how answers are sampled", "template": "the template", "grader": "the grader"}


def previous_job(connection: Connection, job: JobRow) -> JobRow | None:
    """The job of the round before; None where none was named."""
    named = job.request.previous
    found = select(jobs).where(jobs.c.id == named, jobs.c.state == "completed")
    return None if named is None else first_of(JobRow, connection, found)


def changes(
    database: Database, store: Store, job: JobRow, previous: JobRow, score_E: Floats, report: JobReport
) -> ChangesReply:
    """`score_E`: of this job's examples, NaN where there is none. Raises ArtifactLost, StoreError."""
    now = _keys(database, store, job.dataset).with_columns(now=pl.Series(score_E))
    with store.open(previous.scores) as content:
        scores = pl.read_parquet(content, columns=["row", "score"])
    then = _keys(database, store, previous.dataset).join(scores, on="row", how="left")
    # The same example twice in one data set is one example here, its first.
    then, now = (frame.unique("key", keep="first", maintain_order=True) for frame in (then, now))
    both = now.join(then, on="key", how="inner").filter(pl.col("score").is_not_null() & pl.col("now").is_not_nan())
    before_E, after_E = both["score"].to_numpy(), both["now"].to_numpy()
    added = now.join(then, on="key", how="anti")
    known = added.filter(pl.col("now").is_not_nan())["now"]
    interval = mean_interval(np.round(after_E - before_E, 12))
    old = previous.found.checkpoints[-1]
    same_test = job.test_dataset is not None and job.test_dataset == previous.test_dataset
    return ChangesReply(
        previous=previous.id,
        kept=both.height,
        added=added.height,
        dropped=then.join(now, on="key", how="anti").height,
        kept_before=float(before_E.mean()) if both.height else None,
        kept_after=float(after_E.mean()) if both.height else None,
        change=IntervalReply(low=interval[0], high=interval[1]) if interval else None,
        low_before=int((before_E < LOW).sum()),
        low_solved=int(((before_E < LOW) & (after_E >= LOW)).sum()),
        added_score=float(known.to_numpy().mean()) if known.len() else None,
        test_before=old.test_accuracy if same_test else None,
        test_after=report.checkpoints[-1].test_accuracy if same_test else None,
        notes=_notes(job, previous, report),
    )


def _notes(job: JobRow, previous: JobRow, report: JobReport) -> list[str]:
    found = [
        f"{description} differs from that of job {previous.id}"
        for name, description in COMPARED.items()
        if getattr(job.request, name) != getattr(previous.request, name)
    ]
    if report.threshold.memorized_below != previous.memorized_below:
        found.append(
            f"the threshold differs: {report.threshold.memorized_below:.4f} now, {previous.memorized_below:.4f} then"
        )
    if job.test_dataset != previous.test_dataset:
        found.append("the test sets differ, so the two test accuracies are not compared")
    model = previous.found.produced_by["model"]
    if report.produced_by["model"] != model:
        found.append(f"the models differ: {report.produced_by['model']} now, {model} then")
    return found


def _keys(database: Database, store: Store, dataset: str) -> pl.DataFrame:
    """row and key, a hash of question and trace: of a million examples no two are likely to share one by chance."""
    table = pa.concat_tables(list(read_columns(database, store, dataset, "question", "trace")))
    texts = pl.DataFrame(pl.from_arrow(table))
    return texts.select(row=pl.int_range(pl.len(), dtype=pl.Int64), key=pl.struct("question", "trace").hash())
