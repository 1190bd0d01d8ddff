"""What a job found, per checkpoint, and what is forecast from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from sqlalchemy import Connection

from premem.errors import NotFound
from premem.forecasting.forecast import Forecast, Refusal, forecast
from premem.forecasting.rules import RuleName, scores
from premem.forecasting.runs import ScoredRun
from premem.forecasting.thresholds import NEEDS_CALIBRATION
from premem.method.memorization import memorized
from premem.wire.jobs import CalibrationName, ThresholdReply
from premem.wire.reports import CheckpointReport, ForecastReply, JobReport
from premem_service.http.dependencies import DatabaseGiven
from premem_service.http.problems import described
from premem_service.queue.progress import threshold_reply
from premem_service.queue.states import completed
from premem_service.reports.calibrations import calibrated_for, calibration_of, found_calibration, threshold_of
from premem_service.reports.runs import UNKNOWN_MODEL, scored_run, setting_of
from premem_service.scores.score_files import ScoreFiles
from premem_service.storage.rows import CalibrationRow, JobRow

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get("/{job}/report", responses=described(404, 409, 500))
def get_report(
    job: str,
    request: Request,
    database: DatabaseGiven,
    calibration: Annotated[
        CalibrationName | None,
        Query(description="Name or id: its threshold and its forecast, in place of what the job was posted with."),
    ] = None,
    rule: Annotated[
        RuleName | None, Query(description="What is averaged; absent: the calibration's rule, or the paper's.")
    ] = None,
) -> JobReport:
    """Accuracy, share memorized and pre-memorization accuracy of every checkpoint, and the forecast or why there is none.

    With a calibration or a rule the table is worked out anew; what is stored stays as it is.
    """
    with database.connect() as connection:
        row = completed(connection, job)
        report = JobReport.model_validate(row.report)
        if calibration is None and rule is None:
            return report
        kept = found_calibration(connection, calibration) if calibration else own_calibration(connection, row)
    files: ScoreFiles = request.app.state.score_files
    # Without the warnings of the calibration that it was posted with.
    bare = report.model_copy(update={"warnings": row.warnings})
    return under(bare, row, scored_run(files, row), calibration=kept, rule=rule)


def own_calibration(connection: Connection, job: JobRow) -> CalibrationRow | None:
    """The one that the job was posted with; None where there was none, or it was deleted since."""
    if job.calibration is None:
        return None
    try:
        return found_calibration(connection, job.calibration)
    except NotFound:
        return None


def under(
    report: JobReport,
    job: JobRow,
    run: ScoredRun,
    *,
    calibration: CalibrationRow | None,
    rule: str | None = None,
) -> JobReport:
    """The report, its table worked out under another threshold and rule, over the examples that have a score."""
    rule = rule or (calibration.rule if calibration else "paper")
    threshold = threshold_reply(job)
    if calibration is not None:
        drawn = threshold_of(calibration)
        threshold = ThresholdReply(
            memorized_below=drawn.memorized_below, basis=drawn.basis, source=drawn.source, forecast_reason=""
        )
    assert threshold.memorized_below is not None  # noqa: S101  (a completed job has one)
    forecasts = _forecast(job, report, run, calibration=calibration, rule=rule)
    refused = forecasts.reason if isinstance(forecasts, Refusal) else None
    threshold.forecast = "refused" if refused else "given"
    threshold.forecast_reason = refused or _basis(calibration)
    return report.model_copy(
        update={
            "threshold": threshold,
            "rule": rule,
            "calibration": calibration.id if calibration else None,
            "forecast_refused": refused,
            "checkpoints": _lines(report, run, threshold.memorized_below, rule=rule, forecasts=forecasts),
            "warnings": report.warnings + _warnings(job, calibration),
        }
    )


def _forecast(
    job: JobRow,
    report: JobReport,
    run: ScoredRun,
    *,
    calibration: CalibrationRow | None,
    rule: str,
) -> list[Forecast] | Refusal:
    if calibration is None:
        gone = job.calibration is not None
        return Refusal("the calibration that the job was posted with was deleted" if gone else NEEDS_CALIBRATION)
    if calibration.rule != rule:
        return Refusal(
            f"the calibration {calibration.name} was made for the rule {calibration.rule}; "
            f"its threshold does not carry over to {rule}"
        )
    setting = setting_of(replace(job, report=report))
    if setting is None:
        return Refusal(UNKNOWN_MODEL.format(job=job.id))
    return forecast(run, calibration_of(calibration), setting=setting, calibrated_for=calibrated_for(calibration))


def _basis(calibration: CalibrationRow | None) -> str:
    assert calibration is not None  # noqa: S101  (nothing is forecast without one)
    return (
        f"calibration {calibration.name}, rule {calibration.rule}, from {len(calibration.jobs)} runs: "
        f"90% of the forecasts of runs left out came within ± {calibration.result['half_width']:.3f}"
    )


def _lines(
    report: JobReport, run: ScoredRun, memorized_below: float, *, rule: str, forecasts: list[Forecast] | Refusal
) -> list[CheckpointReport]:
    score_C = scores(run, memorized_below=memorized_below, rule=rule).mean(axis=1)
    memorized_C = memorized(run.perplexity_CE, memorized_below=memorized_below).mean(axis=1)
    points: list[Forecast] | list[None] = [None] * len(score_C) if isinstance(forecasts, Refusal) else forecasts
    return [
        line.model_copy(
            update={
                "examples": run.accuracy_CE.shape[1],
                "train_accuracy": float(np.mean(run.accuracy_CE[c])),
                "memorized": float(memorized_C[c]),
                "pre_memorization_accuracy": float(score_C[c]),
                "forecast": _as_reply(points[c]),
            }
        )
        for c, line in enumerate(report.checkpoints)
    ]


def _as_reply(point: Forecast | None) -> ForecastReply | None:
    if point is None or point.accuracy is None or point.low is None or point.high is None:
        return None
    return ForecastReply(accuracy=point.accuracy, low=point.low, high=point.high)


def _warnings(job: JobRow, calibration: CalibrationRow | None) -> list[str]:
    if calibration is None:
        return []
    warnings = [f"calibration {calibration.name}: {warning}" for warning in calibration.result["warnings"]]
    if job.id in calibration.jobs:
        warnings.append(f"calibration {calibration.name} was made from this job among others: its forecast is no test")
    return warnings
