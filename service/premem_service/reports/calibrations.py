"""Calibrations: made from completed jobs, kept under a name, and what a forecast rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any
from uuid import uuid4

import numpy as np
from fastapi import APIRouter, Request, Response
from sqlalchemy import Connection, delete, func, insert, or_, select

from premem.errors import Conflict, NotFound
from premem.forecasting.calibration import Calibration, Fit, calibrate
from premem.forecasting.forecast import Setting
from premem.forecasting.thresholds import Threshold
from premem.wire.bodies import Page
from premem.wire.calibrations import CalibrationReply, CalibrationRequest
from premem.wire.jobs import ENDED
from premem_service.http import cursors
from premem_service.http.dependencies import Cursor, DatabaseGiven, Limit
from premem_service.http.problems import FieldError, described
from premem_service.queue.progress import moment
from premem_service.queue.states import completed
from premem_service.reports.runs import UNKNOWN_MODEL, scored_run, setting_of
from premem_service.scores.score_files import ScoreFiles
from premem_service.storage.db import now
from premem_service.storage.rows import CalibrationRow, JobRow, all_of, first_of, one_of
from premem_service.storage.tables import calibrations, jobs

NUMBER_LOCK = 7_236_638
"""Any number: calibrations are numbered one after the other."""

router = APIRouter(prefix="/v1/calibrations", tags=["calibrations"])


@router.post("", status_code=201, responses=described(409, 500))
def post_calibration(
    body: CalibrationRequest, request: Request, response: Response, database: DatabaseGiven
) -> CalibrationReply:
    """Find the threshold that explains several completed jobs best, and keep it under a name.

    The jobs must share model, task, grader, template and span rule, each needs a test set, and they should differ in
    learning rate. It takes seconds to minutes.
    """
    with database.connect() as connection:
        _check_free(connection, body.name)
        rows = [_job(connection, job) for job in body.jobs]
    setting = _shared_setting(rows)
    files: ScoreFiles = request.app.state.score_files
    found = calibrate([scored_run(files, row) for row in rows], rule=body.rule, memorized_below=body.memorized_below)
    with database.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(NUMBER_LOCK)))
        _check_free(connection, body.name)
        number = (connection.scalar(select(func.max(calibrations.c.number))) or 0) + 1
        kept = one_of(
            CalibrationRow,
            connection,
            insert(calibrations)
            .values(
                id=f"cal_{uuid4().hex[:32]}",
                number=number,
                name=body.name,
                setting=asdict(setting),
                rule=found.rule,
                memorized_below=found.memorized_below,
                jobs=body.jobs,
                result=_result(found),
                created_at=now(connection),
            )
            .returning(calibrations),
        )
        reply = _reply(kept)
    response.headers["Location"] = f"/v1/calibrations/{reply.id}"
    return reply


@router.get("")
def list_calibrations(database: DatabaseGiven, cursor: Cursor = None, limit: Limit = 50) -> Page[CalibrationReply]:
    """All calibrations, the newest first."""
    before = cursors.decode(cursor, of="calibrations")
    page = select(calibrations).order_by(calibrations.c.number.desc()).limit(limit + 1)
    if before is not None:
        page = page.where(calibrations.c.number < before)
    with database.connect() as connection:
        rows = all_of(CalibrationRow, connection, page)
    more = len(rows) > limit
    return Page(
        items=[_reply(row) for row in rows[:limit]],
        next_cursor=cursors.encode(rows[limit - 1].number, of="calibrations") if more else None,
    )


@router.get("/{calibration}", responses=described(404))
def get_calibration(calibration: str, database: DatabaseGiven) -> CalibrationReply:
    """One calibration, by name or id."""
    with database.connect() as connection:
        return _reply(found_calibration(connection, calibration))


@router.delete("/{calibration}", status_code=204, responses=described(404, 409))
def delete_calibration(calibration: str, database: DatabaseGiven) -> None:
    """Forget a calibration. Completed jobs keep the forecasts that were made with it."""
    with database.begin() as connection:
        row = found_calibration(connection, calibration, lock=True)
        waiting = select(jobs.c.id).where(jobs.c.calibration == row.id, jobs.c.state.not_in(ENDED)).limit(1)
        using = connection.scalar(waiting)
        if using is not None:
            raise Conflict(f"job {using} has not ended and uses the calibration {row.name}: cancel it first")
        connection.execute(delete(calibrations).where(calibrations.c.id == row.id))


# For other routes


def found_calibration(connection: Connection, name: str, *, lock: bool = False) -> CalibrationRow:
    """By name or id. Raises NotFound."""
    query = select(calibrations).where(or_(calibrations.c.id == name, calibrations.c.name == name))
    row = first_of(CalibrationRow, connection, query.with_for_update() if lock else query)
    if row is None:
        raise NotFound(f"there is no calibration {name!r}")
    return row


def held_calibration(connection: Connection, name: str) -> CalibrationRow:
    """For a job that is being posted: nobody deletes it until the job is there. Raises FieldError."""
    try:
        return found_calibration(connection, name, lock=True)
    except NotFound as error:
        raise FieldError("calibration", f"{error}: make one with POST /v1/calibrations") from error


def threshold_of(row: CalibrationRow) -> Threshold:
    return Threshold(
        memorized_below=row.memorized_below,
        basis="calibration",
        source=f"calibration {row.name}, rule {row.rule}, from {len(row.jobs)} runs",
    )


def calibrated_for(row: CalibrationRow) -> Setting:
    return Setting(**row.setting)


def calibration_of(row: CalibrationRow) -> Calibration:
    """As it was when it was made."""
    result = row.result
    points = result["points"]
    return Calibration(
        rule=row.rule,
        memorized_below=row.memorized_below,
        fit=_fit(result["fit"]),
        left_out=_fit(result["left_out"]),
        interval=tuple(result["interval"]),
        r2_interval=(_number(result["r2_interval"][0]), _number(result["r2_interval"][1])),
        band=None if result["band"] is None else tuple(result["band"]),
        half_width=result["half_width"],
        thresholds_T=np.array(result["thresholds"]),
        r2_T=np.array([_number(value) for value in result["r2"]]),
        forecast_P=np.array([point["forecast"] for point in points]),
        test_P=np.array([point["test"] for point in points]),
        run_P=tuple(point["run"] for point in points),
        checkpoint_P=tuple(point["checkpoint"] for point in points),
        warnings=tuple(result["warnings"]),
    )


# How it is kept


def _check_free(connection: Connection, name: str) -> None:
    if connection.scalar(select(calibrations.c.id).where(calibrations.c.name == name)) is not None:
        raise Conflict(f"there is a calibration named {name!r} already: take another name, or delete it first")


def _job(connection: Connection, job: str) -> JobRow:
    try:
        return completed(connection, job)
    except NotFound as error:
        raise FieldError("jobs", str(error)) from error


def _shared_setting(rows: Sequence[JobRow]) -> Setting:
    """Raises FieldError, naming two jobs and what differs."""
    settings = []
    for row in rows:
        setting = setting_of(row)
        if setting is None:
            raise FieldError("jobs", UNKNOWN_MODEL.format(job=row.id))
        settings.append(setting)
    first = settings[0]
    for row, setting in zip(rows, settings, strict=True):
        for part in fields(Setting):
            here, there = getattr(first, part.name), getattr(setting, part.name)
            if here != there:
                raise FieldError(
                    "jobs",
                    f"{rows[0].id} and {row.id} differ in their {part.name} ({here!r} and {there!r}): "
                    "a threshold of one does not carry over to the other",
                )
    return first


def _result(found: Calibration) -> dict[str, Any]:
    """JSON knows no NaN: what does not exist is null."""
    points = zip(found.run_P, found.checkpoint_P, found.forecast_P.tolist(), found.test_P.tolist(), strict=True)
    return {
        "fit": _fit_json(found.fit),
        "left_out": _fit_json(found.left_out),
        "interval": list(found.interval),
        "r2_interval": [_or_none(end) for end in found.r2_interval],
        "band": None if found.band is None else list(found.band),
        "half_width": found.half_width,
        "thresholds": found.thresholds_T.tolist(),
        "r2": [_or_none(value) for value in found.r2_T.tolist()],
        "points": [
            {"run": run, "checkpoint": checkpoint, "forecast": forecast, "test": test}
            for run, checkpoint, forecast, test in points
        ],
        "warnings": list(found.warnings),
    }


def _reply(row: CalibrationRow) -> CalibrationReply:
    return CalibrationReply.model_validate({**asdict(row), **row.result, "created_at": moment(row.created_at)})


def _fit_json(fit: Fit) -> dict[str, float | None]:
    return {name: _or_none(value) for name, value in asdict(fit).items()}


def _fit(kept: Mapping[str, float | None]) -> Fit:
    return Fit(**{name: _number(value) for name, value in kept.items()})


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value
