"""Finalizing: from the results of all tasks to one file of scores, sorted by rank, and a report.

Shapes: C checkpoints that count, in order, E training examples. Texts of answers are never read here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import structlog
from numpy.typing import NDArray
from sqlalchemy import Connection, RowMapping, or_, select, update

from premem.curation.policies import mean_accuracies, rank, tie_order
from premem.errors import InputError, Interrupted, PrememError
from premem.forecasting.runs import ScoredRun
from premem.method.copying import COPIED_FROM
from premem.method.memorization import memorized
from premem.method.uncertainty import score_intervals
from premem.wire.bodies import GraderChoice
from premem.wire.reports import JobReport, LowReply
from premem_service.curation.acquisitions import by_embedding, forget_embeddings
from premem_service.curation.selections import in_common
from premem_service.datasets.routes import manifest
from premem_service.jobs.regrades import disagreement, grader_of, regraded_results
from premem_service.queue.progress import threshold_reply
from premem_service.reports import routes as reports
from premem_service.reports.changes import LOW, changes, previous_job
from premem_service.reports.robustness import perturbed_results, read_perturbed, robustness, variants
from premem_service.scores.observations import (
    Floats,
    Observed,
    checkpoint_reports,
    completed_results,
    read,
    read_recorded,
    threshold_of_history,
    trajectory_scores,
)
from premem_service.storage.db import Database, now
from premem_service.storage.store import Store
from premem_service.storage.tables import checkpoints, datasets, jobs

PREFIX = "scores/"
FINALIZING_SECONDS = 120.0
"""A service that finalizes says so at least this often, or another one takes over."""
RENEW_SECONDS = 10.0
ATTEMPTS = 3
RETRY_SECONDS = 2.0
GROUP_ROWS = 2_048
"""What a page reads at least."""
WRITTEN_AT_ONCE = 32 * GROUP_ROWS
SNIPPET_CHARACTERS = 300

SCHEMA = pa.schema(
    [
        pa.field("rank", pa.int64(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),  # its first characters
        pa.field("score", pa.float64(), nullable=False),  # pre-memorization accuracy at the last checkpoint
        pa.field("mean_accuracy", pa.float64()),  # null: not every answer was drawn
        pa.field("accuracy", pa.list_(pa.float64()), nullable=False),  # per checkpoint, null as the mean
        pa.field("perplexity", pa.list_(pa.float64()), nullable=False),
        pa.field("memorized", pa.list_(pa.bool_()), nullable=False),
        pa.field("low", pa.float64(), nullable=False),  # of the score's 90% interval
        pa.field("high", pa.float64(), nullable=False),
        pa.field("copied", pa.list_(pa.float64()), nullable=False),  # per checkpoint; null: the answers are not here
        pa.field("perturbed", pa.list_(pa.float64()), nullable=False),  # accuracy per variant, the baseline first
    ]
)

log = structlog.get_logger(__name__)


class Unscorable(PrememError):
    """There is nothing to rank, and trying again cannot help."""


def finalize_next(database: Database, store: Store, *, stopped: Callable[[], bool]) -> bool:
    """Finalize the job that waits longest. Returns whether there was one."""
    with database.begin() as connection:
        job = _claim(connection, at=now(connection))
    if job is None:
        return False
    told = log.bind(job=job["id"], attempt=job["finalizing_attempts"])
    if job["finalizing_attempts"] > ATTEMPTS:  # the service itself died of it
        _fail(database, job, f"finalizing was given up after {ATTEMPTS} attempts: the service ended each time")
        return True
    lease = _Lease(database, job, stopped)
    try:
        if job["kind"] == "acquire":
            _finalize_acquisition(database, store, job, lease)
        else:
            _finalize(database, store, job, lease)
    except Interrupted as error:
        told.info("finalizing stopped", reason=str(error))
        _give_back(database, job)
    except Unscorable as error:
        _fail(database, job, str(error))
    except Exception as error:  # whatever it is, it is told to whoever waits for the job
        told.exception("finalizing failed")
        if job["finalizing_attempts"] >= ATTEMPTS:
            reason = str(error) if isinstance(error, PrememError) else f"{type(error).__name__}: {error}"
            _fail(database, job, f"finalizing failed {ATTEMPTS} times: {reason}")
        else:
            _retry(database, job)
    else:
        told.info("job finalized")
    return True


# The claim


def _claim(connection: Connection, *, at: float) -> RowMapping | None:
    free = or_(jobs.c.finalizing_until.is_(None), jobs.c.finalizing_until < at)
    next_one = (
        select(jobs.c.id)
        .where(jobs.c.state == "finalizing", free)
        .order_by(jobs.c.number)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    claimed = (
        update(jobs)
        .where(jobs.c.id == next_one)
        .values(finalizing_until=at + FINALIZING_SECONDS, finalizing_attempts=jobs.c.finalizing_attempts + 1)
        .returning(jobs)
    )
    return connection.execute(claimed).mappings().one_or_none()


def _change(connection: Connection, job: RowMapping, **values: object) -> bool:
    """Change a job that is still ours to finalize: neither cancelled nor taken over."""
    ours = (
        jobs.c.id == job["id"],
        jobs.c.state == "finalizing",
        jobs.c.finalizing_attempts == job["finalizing_attempts"],
    )
    return connection.execute(update(jobs).where(*ours).values(**values)).rowcount == 1


def _fail(database: Database, job: RowMapping, error: str) -> None:
    with database.begin() as connection:
        _change(connection, job, state="failed", error=error, finished_at=now(connection))


def _retry(database: Database, job: RowMapping) -> None:
    with database.begin() as connection:
        until = now(connection) + RETRY_SECONDS * job["finalizing_attempts"]
        _change(connection, job, finalizing_until=until)


def _give_back(database: Database, job: RowMapping) -> None:
    with database.begin() as connection:
        _change(connection, job, finalizing_until=None, finalizing_attempts=job["finalizing_attempts"] - 1)


class _Lease:
    """Renews the claim on the way, and raises Interrupted where it is lost or the service ends."""

    def __init__(self, database: Database, job: RowMapping, stopped: Callable[[], bool]) -> None:
        self._database = database
        self._job = job
        self._stopped = stopped
        self._renewed = time.monotonic()

    def check(self) -> None:
        if self._stopped():
            raise Interrupted("the service ends")
        if time.monotonic() - self._renewed < RENEW_SECONDS:
            return
        with self._database.begin() as connection:
            if not _change(connection, self._job, finalizing_until=now(connection) + FINALIZING_SECONDS):
                raise Interrupted("the job was cancelled, or another service took over")
        self._renewed = time.monotonic()


# From there to the commit


def _finalize(database: Database, store: Store, job: RowMapping, lease: _Lease) -> None:
    with database.connect() as connection:
        results = completed_results(connection, job["id"])
        examples = connection.scalar(select(datasets.c.rows).where(datasets.c.id == job["dataset"])) or 0
        calibration = reports.own_calibration(connection, job)
        beside = _Beside(
            perturbed=perturbed_results(connection, job["id"]),
            regraded=regraded_results(connection, job["id"]),
            before=grader_of(connection, job["parent"]) if job["kind"] == "regrade" else None,
            previous=previous_job(connection, job),
        )
    samples = job["request"]["sampling"]["samples"]
    if job["recorded"] is not None:
        seen = read_recorded(store, job["recorded"], examples=examples)
    elif results:
        copied_from = job["request"].get("copied_from", COPIED_FROM)
        seen = read(store, results, examples=examples, samples=samples, copied_from=copied_from, check=lease.check)
    else:
        raise Unscorable("no checkpoint was scored")
    with database.connect() as connection:
        warnings = _warnings(connection, job, seen)
    seen = _without_unscored(seen, warnings)
    threshold = threshold_of_history(job, seen)
    trajectory = job["request"].get("trajectory", "everything")
    scores_CE = trajectory_scores(seen, memorized_below=threshold.memorized_below, trajectory=trajectory)
    ranked = rank(scores_CE[-1], seen.accuracy_CE, seen.perplexity_CE)
    if ranked.size == 0:
        raise Unscorable(f"no example has a score at every checkpoint{_why(seen)}")
    drawn = {"memorized_below": threshold.memorized_below, "threshold_source": threshold.source}
    report = _report({**job, **drawn}, seen, scores_CE, ranked.size, warnings=warnings)
    if job["calibration"] is not None:
        report = reports.under(report, job, _run(job, seen, ranked), calibration=calibration)
    names = variants(job)
    perturbed_VE = read_perturbed(
        store, beside.perturbed, variants=len(names), examples=examples, samples=samples, check=lease.check
    )
    lost, missing = robustness(names, scores_CE[-1], perturbed_VE)
    warnings += missing
    report = report.model_copy(update={"robustness": lost, "warnings": [*report.warnings, *missing]})
    report = _with_comparisons(database, store, job, report, beside, score_E=scores_CE[-1], check=lease.check)
    artifact = f"{PREFIX}{job['id']}/{uuid4().hex}.parquet"
    _write(database, store, job, artifact, seen, scores_CE[-1], perturbed_VE, ranked, threshold.memorized_below, lease)
    told = report.model_dump(mode="json")
    _complete(database, store, job, artifact, report=told, warnings=warnings, **drawn)


def _finalize_acquisition(database: Database, store: Store, job: RowMapping, lease: _Lease) -> None:
    try:
        found = by_embedding(database, store, job, check=lease.check)
    except InputError as error:
        raise Unscorable(str(error)) from error
    artifact = f"{PREFIX}{job['id']}/{uuid4().hex}.json"
    store.put(artifact, found.model_dump_json().encode())
    _complete(database, store, job, artifact)


def _complete(database: Database, store: Store, job: RowMapping, artifact: str, **values: object) -> None:
    """One transaction: the job is still ours, and its artifact counts from now on."""
    with database.begin() as connection:
        kept = _change(
            connection,
            job,
            state="completed",
            scores_artifact=artifact,
            finished_at=now(connection),
            finalizing_until=None,
            error=None,
            **values,
        )
        if kept and job["kind"] == "acquire":
            forget_embeddings(connection, job["id"])
    # After an error nobody knows whether the commit took place: then what no row names is collected as garbage.
    if not kept:
        store.delete([artifact])
        raise Interrupted("the job was cancelled, or another service took over")


@dataclass(frozen=True, slots=True)
class _Beside:
    """What the report compares with: other draws, another grader, another round."""

    perturbed: list[RowMapping]
    regraded: list[RowMapping]
    before: GraderChoice | None
    previous: RowMapping | None


def _with_comparisons(
    database: Database,
    store: Store,
    job: RowMapping,
    report: JobReport,
    beside: _Beside,
    *,
    score_E: Floats,
    check: Callable[[], None],
) -> JobReport:
    scored = np.flatnonzero(~np.isnan(score_E))
    below = job["request"].get("below") or LOW
    low_E = score_E[scored] < below
    in_low, notes = in_common(database, store, job["dataset"], scored, low_E, seed=0)
    update: dict[str, Any] = {"low": LowReply(below=below, examples=int(low_E.sum()), traits=in_low, notes=notes)}
    if beside.before is not None:
        after = GraderChoice.model_validate(job["request"]["grader"])
        update["regrade"] = disagreement(
            store, beside.regraded, of=job["parent"], before=beside.before, after=after, check=check
        )
    if beside.previous is not None:
        check()
        update["changes"] = changes(database, store, job, beside.previous, score_E, report)
    return report.model_copy(update=update)


def _without_unscored(seen: Observed, warnings: list[str]) -> Observed:
    """A checkpoint that skipped every example would leave no example a score."""
    empty_C = np.asarray(np.isnan(seen.perplexity_CE).all(axis=1))
    if empty_C.all():
        raise Unscorable(f"no example was scored{_why(seen)}")
    warnings += [
        f"{seen.names[place]} is left out of the history: it skipped every training example{_why(seen)}"
        for place in np.flatnonzero(empty_C)
    ]
    return seen.scored_only()


def _why(seen: Observed) -> str:
    reasons = Counter(seen.reasons.values()).most_common(3)
    return f" ({'; '.join(f'{count}: {reason}' for reason, count in reasons)})" if reasons else ""


def _warnings(connection: Connection, job: RowMapping, seen: Observed) -> list[str]:
    found: list[str] = list(job["warnings"])
    every = select(checkpoints).where(checkpoints.c.job == job["id"]).order_by(checkpoints.c.position)
    for checkpoint in connection.execute(every).mappings():
        if checkpoint["name"] not in seen.names:
            reason = checkpoint["error"] or "not all of its training examples were scored"
            found.append(f"{checkpoint['name']} is left out of the history: {reason}")
    if job["test_dataset"] is not None:
        found += [
            f"{name} has no test accuracy: not all of its test examples were answered"
            for name, test in zip(seen.names, seen.test, strict=True)
            if test is None
        ]
    if seen.reasons:
        found.append(f"{len(seen.reasons):,} training examples were skipped and have no score{_why(seen)}")
    if (below := job["request"].get("below")) is not None:
        found.append(
            f"only whether a score is under {below:g} was settled: one that is not under it may be higher than it says, and "
            "one that is under it too"
        )
    if seen.timeouts:
        found.append(
            f"{seen.timeouts:,} of {seen.samples:,} answers ran out of time while being graded; none counts as right"
        )
    if seen.span_shifted:
        share = seen.span_shifted / max(seen.scored, 1)
        found.append(
            f"on {seen.span_shifted:,} of {seen.scored:,} scored examples ({share:.1%}) prompt and target share a token "
            "where they meet; they are scored from the first token that differs"
        )
    for key in ("engine", "dtype", "tokenizer", "model"):
        if len(seen.produced_by[key]) > 1:
            found.append(f"results come from more than one {key}: {', '.join(sorted(seen.produced_by[key]))}")
    return found


def _report(job: dict[str, Any], seen: Observed, scores_CE: Floats, scored: int, *, warnings: list[str]) -> JobReport:
    threshold = threshold_reply(job)
    assert threshold.memorized_below is not None  # noqa: S101  (drawn by now)
    return JobReport(
        job=job["id"],
        dataset=job["dataset"],
        threshold=threshold,
        tie_order=tie_order(means=not np.isnan(mean_accuracies(scores_CE[-1], seen.accuracy_CE)).all()),
        checkpoints=checkpoint_reports(seen, scores_CE, memorized_below=threshold.memorized_below),
        skipped=int(seen.accuracy_CE.shape[1] - seen.untrained - scored),
        skipped_reasons=dict(Counter(seen.reasons.values())),
        warnings=warnings,
        produced_by={key: ", ".join(sorted(values - {""})) for key, values in seen.produced_by.items()},
    )


def _run(job: RowMapping, seen: Observed, ranked: NDArray[np.int64]) -> ScoredRun:
    rows = np.sort(ranked)
    return ScoredRun(
        name=job["name"] or job["id"],
        checkpoints=tuple(seen.names),
        accuracy_CE=seen.accuracy_CE[:, rows],
        perplexity_CE=seen.perplexity_CE[:, rows],
        samples=job["request"]["sampling"]["samples"],
        test_accuracy_C=np.array([np.nan if test is None else test[0] for test in seen.test]),
        learning_rate=job["request"].get("learning_rate"),
    )


def _write(
    database: Database,
    store: Store,
    job: RowMapping,
    artifact: str,
    seen: Observed,
    score_E: Floats,
    perturbed_VE: Floats,
    ranked: NDArray[np.int64],
    memorized_below: float,
    lease: _Lease,
) -> None:
    ids, questions = _names(database, store, job["dataset"], lease)
    mean_E = mean_accuracies(score_E, seen.accuracy_CE)
    low_R, high_R = _intervals(seen, ranked, memorized_below)
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


def _intervals(seen: Observed, ranked: NDArray[np.int64], memorized_below: float) -> tuple[Floats, Floats]:
    """Of every score, in the order of the ranks."""
    memorized_CR = memorized(seen.perplexity_CE[:, ranked], memorized_below=memorized_below)
    return score_intervals(
        seen.correct_CE[:, ranked], memorized_CR, samples=seen.per_pair, drawn_CE=seen.drawn_CE[:, ranked]
    )


def _copied(seen: Observed, rows: NDArray[np.int64]) -> pa.ListArray:
    copied_CE = np.full((len(seen.names), rows.size), np.nan) if seen.copied_CE is None else seen.copied_CE[:, rows]
    return _lists(copied_CE.T, from_pandas=True)


def _names(database: Database, store: Store, dataset: str, lease: _Lease) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
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
