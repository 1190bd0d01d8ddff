"""What a job found, per checkpoint."""

from __future__ import annotations

from fastapi import APIRouter

from premem.wire import JobReport
from service.dependencies import DatabaseGiven
from service.examples import completed
from service.problems import described

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get("/{job}/report", responses=described(404, 409))
def get_report(job: str, database: DatabaseGiven) -> JobReport:
    """Accuracy, share memorized and pre-memorization accuracy of every checkpoint."""
    with database.connect() as connection:
        return JobReport.model_validate(completed(connection, job)["report"])
