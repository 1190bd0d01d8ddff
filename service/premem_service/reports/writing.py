"""Finalizing: from the results of all tasks to one file of scores, sorted by rank, and a report.

Shapes: C checkpoints that count, in order, E training examples. Texts of answers are never read here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import numpy as np
import structlog
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from premem.curation.policies import mean_accuracies, rank, tie_order
from premem.forecasting.runs import ScoredRun
from premem.wire.bodies import GraderChoice
from premem.wire.reports import JobReport, LowReply
from premem_service.queue.finalizing import Lease, Unscorable, complete_job
from premem_service.queue.progress import threshold_reply
from premem_service.reports import routes as reports
from premem_service.reports.changes import LOW, changes, previous_job
from premem_service.reports.disagreement import disagreement, grader_of, regraded_results
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
from premem_service.scores.ranking import PREFIX, write
from premem_service.scores.traits import in_common
from premem_service.storage.db import Database
from premem_service.storage.rows import CheckpointRow, JobRow, PerturbedRow, RegradedRow, all_of
from premem_service.storage.store import Store
from premem_service.storage.tables import checkpoints, datasets

log = structlog.get_logger(__name__)


# The claim_job


# From there to the commit


def finalize(database: Database, store: Store, job: JobRow, lease: Lease) -> None:
    with database.connect() as connection:
        results = completed_results(connection, job.id)
        examples = connection.scalar(select(datasets.c.rows).where(datasets.c.id == job.dataset)) or 0
        calibration = reports.own_calibration(connection, job)
        beside = _Beside(
            perturbed=perturbed_results(connection, job.id),
            regraded=regraded_results(connection, job.id),
            before=grader_of(connection, job.parent) if job.kind == "regrade" and job.parent else None,
            previous=previous_job(connection, job),
        )
    samples = job.request.sampling.samples
    if job.recorded is not None:
        seen = read_recorded(store, job.recorded, examples=examples)
    elif results:
        copied_from = job.request.copied_from
        seen = read(store, results, examples=examples, samples=samples, copied_from=copied_from, check=lease.check)
    else:
        raise Unscorable("no checkpoint was scored")
    with database.connect() as connection:
        warnings = _warnings(connection, job, seen)
    seen = _without_unscored(seen, warnings)
    threshold = threshold_of_history(job, seen)
    trajectory = job.request.trajectory
    scores_CE = trajectory_scores(seen, memorized_below=threshold.memorized_below, trajectory=trajectory)
    ranked = rank(scores_CE[-1], seen.accuracy_CE, seen.perplexity_CE)
    if ranked.size == 0:
        raise Unscorable(f"no example has a score at every checkpoint{_why(seen)}")
    drawn: dict[str, Any] = {"memorized_below": threshold.memorized_below, "threshold_source": threshold.source}
    low = _low(database, store, job, scores_CE[-1])
    report = _report(replace(job, **drawn), seen, scores_CE, ranked.size, low=low, warnings=warnings)
    if job.calibration is not None:
        report = reports.under(report, job, _run(job, seen, ranked), calibration=calibration)
    names = variants(job)
    perturbed_VE = read_perturbed(
        store, beside.perturbed, variants=len(names), examples=examples, samples=samples, check=lease.check
    )
    lost, missing = robustness(names, scores_CE[-1], perturbed_VE)
    warnings += missing
    report = report.model_copy(update={"robustness": lost, "warnings": [*report.warnings, *missing]})
    report = _with_comparisons(database, store, job, report, beside, score_E=scores_CE[-1], check=lease.check)
    artifact = f"{PREFIX}{job.id}/{uuid4().hex}.parquet"
    write(database, store, job, artifact, seen, scores_CE[-1], perturbed_VE, ranked, threshold.memorized_below, lease)
    body = report.model_dump(mode="json")
    complete_job(database, store, job, artifact, report=body, warnings=warnings, **drawn)


@dataclass(frozen=True, slots=True)
class _Beside:
    """What the report compares with: other draws, another grader, another round."""

    perturbed: list[PerturbedRow]
    regraded: list[RegradedRow]
    before: GraderChoice | None
    previous: JobRow | None


def _with_comparisons(
    database: Database,
    store: Store,
    job: JobRow,
    report: JobReport,
    beside: _Beside,
    *,
    score_E: Floats,
    check: Callable[[], None],
) -> JobReport:
    update: dict[str, Any] = {}
    if beside.before is not None and job.parent is not None:
        after = job.request.grader
        update["regrade"] = disagreement(
            store, beside.regraded, of=job.parent, before=beside.before, after=after, check=check
        )
    if beside.previous is not None:
        check()
        update["changes"] = changes(database, store, job, beside.previous, score_E, report)
    return report.model_copy(update=update)


def _low(database: Database, store: Store, job: JobRow, score_E: Floats) -> LowReply:
    scored = np.flatnonzero(~np.isnan(score_E))
    below = job.request.below or LOW
    low_E = score_E[scored] < below
    in_low, notes = in_common(database, store, job.dataset, scored, low_E, seed=0)
    return LowReply(below=below, examples=int(low_E.sum()), traits=in_low, notes=notes)


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


def _warnings(connection: Connection, job: JobRow, seen: Observed) -> list[str]:
    found: list[str] = list(job.warnings)
    every = select(checkpoints).where(checkpoints.c.job == job.id).order_by(checkpoints.c.position)
    for checkpoint in all_of(CheckpointRow, connection, every):
        if checkpoint.name not in seen.names:
            reason = checkpoint.error or "not all of its training examples were scored"
            found.append(f"{checkpoint.name} is left out of the history: {reason}")
    if job.test_dataset is not None:
        found += [
            f"{name} has no test accuracy: not all of its test examples were answered"
            for name, test in zip(seen.names, seen.test, strict=True)
            if test is None
        ]
    if seen.reasons:
        found.append(f"{len(seen.reasons):,} training examples were skipped and have no score{_why(seen)}")
    if (below := job.request.below) is not None:
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


def _report(
    job: JobRow, seen: Observed, scores_CE: Floats, scored: int, *, low: LowReply, warnings: list[str]
) -> JobReport:
    threshold = threshold_reply(job)
    assert threshold.memorized_below is not None  # noqa: S101  (drawn by now)
    return JobReport(
        job=job.id,
        dataset=job.dataset,
        threshold=threshold,
        tie_order=tie_order(means=not np.isnan(mean_accuracies(scores_CE[-1], seen.accuracy_CE)).all()),
        checkpoints=checkpoint_reports(seen, scores_CE, memorized_below=threshold.memorized_below),
        skipped=int(seen.accuracy_CE.shape[1] - seen.untrained - scored),
        skipped_reasons=dict(Counter(seen.reasons.values())),
        warnings=warnings,
        low=low,
        produced_by={key: ", ".join(sorted(values - {""})) for key, values in seen.produced_by.items()},
    )


def _run(job: JobRow, seen: Observed, ranked: NDArray[np.int64]) -> ScoredRun:
    rows = np.sort(ranked)
    return ScoredRun(
        name=job.name or job.id,
        checkpoints=tuple(seen.names),
        accuracy_CE=seen.accuracy_CE[:, rows],
        perplexity_CE=seen.perplexity_CE[:, rows],
        samples=job.request.sampling.samples,
        test_accuracy_C=np.array([np.nan if test is None else test[0] for test in seen.test]),
        learning_rate=job.request.learning_rate,
    )
