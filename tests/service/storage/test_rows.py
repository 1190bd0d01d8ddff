"""Rows as types: one field for every column, and one place that builds them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from sqlalchemy import Table

import premem_service
from premem.wire.jobs import JobRequest
from premem_service.storage import rows, tables


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        (rows.JobRow, tables.jobs),
        (rows.TaskRow, tables.tasks),
        (rows.CheckpointRow, tables.checkpoints),
        (rows.DatasetRow, tables.datasets),
        (rows.KeyRow, tables.keys),
        (rows.WorkerRow, tables.workers),
        (rows.CalibrationRow, tables.calibrations),
        (rows.IdempotencyRow, tables.idempotency),
    ],
)
def test_a_row_has_a_field_for_every_column(kind: type[rows.Row], table: Table):
    assert {field.name for field in fields(kind)} == set(table.c.keys())


def test_rows_are_built_at_one_place():
    package = Path(premem_service.__file__).parent
    building = {path.name for path in package.rglob("*.py") if ".mappings()" in path.read_text()}

    assert building == {"rows.py"}


def test_a_request_is_kept_without_its_checkpoints():
    asked = JobRequest(dataset="d", checkpoints=[{"path": "/c"}], trajectory="full", grader={"name": "exact"})

    kept = rows.StoredRequest.model_validate(asked.model_dump(mode="json", exclude={"checkpoints"}))

    assert (kept.checkpoints, kept.trajectory, kept.grader.name) == ([], "full", "exact")
