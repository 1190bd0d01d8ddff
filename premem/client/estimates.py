"""What a job will cost, measured on a few of its examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from premem.errors import PrememError

if TYPE_CHECKING:
    from premem.client.client import Client
    from premem.wire.estimates import Estimate
    from premem.wire.jobs import Job, JobRequest

MEASURED_ROWS = 32
NOTHING_IS_MEMORIZED = 1.0000001
"""A threshold under which every answer of the measured examples is drawn."""


def measured_estimate(
    client: Client, request: JobRequest, *, wait: Callable[[Client, Job], Job], rows: int = MEASURED_ROWS
) -> Estimate:
    """Estimate what `request` will cost, from a small job over its first rows at its first checkpoint. Needs a worker.

    `wait` returns the small job once it has ended. Raises PrememError where that did not complete.
    """
    whole = client.dataset(request.dataset)
    few = client.upload(
        client.rows(request.dataset, stop=min(rows, whole.rows)),
        name=f"{whole.name}, measured",
        columns=whole.columns,
        grader=whole.grader.name,
        grader_options=whole.grader.options,
        repair_latex=False,  # they were taken as they are
    )
    small = request.model_copy(
        update={
            "dataset": few.id,
            "test_dataset": None,
            "checkpoints": request.checkpoints[:1],
            "open": False,
            "perturbations": [],
            "previous": None,
            "calibration": None,
            "memorized_below": NOTHING_IS_MEMORIZED,
            "trajectory": "full",
            "below": None,
            "shard_rows": rows,
            "name": "measures what a job will cost",
        }
    )
    job = wait(client, client.create_job(small))
    if job.state != "completed":
        raise PrememError(f"the job {job.id} that measures the pace is {job.state}: {'; '.join(job.errors)}")
    return client.estimate(request, measured_by=job.id)
