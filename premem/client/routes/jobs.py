"""Jobs: create them, watch them, change them, make others out of them."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from premem.client.replies import parse, retry_after
from premem.client.routes.datasets import UPLOAD_SECONDS
from premem.client.routes.shared import RouteGroup, path_of
from premem.client.transport import Listing, Pause, Steps, endpoint, is_passing, paginated
from premem.client.upload import Upload
from premem.errors import ServiceError
from premem.forecasting.runs import ScoredRun
from premem.wire.bodies import GraderChoice
from premem.wire.calibrations import RecordedRun
from premem.wire.estimates import Estimate, WorkerReply
from premem.wire.jobs import ENDED, Checkpoint, Job, JobRequest
from premem.wire.reports import RegradeRequest, ResampleRequest

POLL_SECONDS = 2.0
"""Between two looks at a job, where the service names no other pause."""


class JobRoutes(RouteGroup):
    """Part of Client and AsyncClient."""

    @endpoint
    def create_job(self, request: JobRequest, *, idempotency_key: str | None = None) -> Steps[Job]:
        """Start a job that scores a data set at the checkpoints of a run.

        Args:
            request: What to score, and how.
            idempotency_key: The same key within a day gives the same job. Absent: every call makes a new job.

        Returns:
            The job, queued; `wait` for it.

        Raises:
            InputError: The request does not fit together.
            NotFound: A data set, job or calibration that it names does not exist.
        """
        body = request.model_dump(mode="json")
        return (yield from self._request(Job, "POST", "/v1/jobs", body=body, idempotency_key=idempotency_key))

    @endpoint
    def estimate(self, request: JobRequest, *, measured_by: str | None = None) -> Steps[Estimate]:
        """Estimate what a job will cost, without starting it.

        Args:
            request: What would be scored, and how.
            measured_by: Id of a completed job whose lengths and pace the estimate uses. Absent: times are unknown.

        Returns:
            Tokens, answers, seconds and bytes, each between two ends where it is not known exactly.

        Raises:
            InputError: The request does not fit together.
            NotFound: A data set or job that it names does not exist.
        """
        body, params = request.model_dump(mode="json"), {"dry_run": "true", "measured_by": measured_by}
        return (yield from self._request(Estimate, "POST", "/v1/jobs", body=body, params=params))

    @paginated
    def workers(self) -> Listing[WorkerReply]:
        """List the workers that have a task, or asked for one within the last minute."""
        return self._pages("/v1/workers", WorkerReply)

    @paginated
    def jobs(self) -> Listing[Job]:
        """List all jobs, newest first; pages are requested as they are read."""
        return self._pages("/v1/jobs", Job)

    @endpoint
    def job(self, job: str) -> Steps[Job]:
        """Get one job: its state, and how far each checkpoint is.

        Args:
            job: Its id.

        Raises:
            NotFound: There is no such job.
        """
        return (yield from self._request(Job, "GET", path_of("jobs", job)))

    @endpoint
    def wait(
        self,
        job: str,
        *,
        on_progress: Callable[[Job], None] | None = None,
        timeout: float | None = None,
        away_seconds: float = 300.0,
    ) -> Steps[Job]:
        """Wait until a job has ended: completed, failed or cancelled.

        Args:
            job: Its id.
            on_progress: Called with the job each time that it was looked at.
            timeout: Seconds to wait at most. Absent: without end.
            away_seconds: Seconds for which a service that was there may be unreachable, while it restarts.

        Returns:
            The job as it ended.

        Raises:
            TimeoutError: It has not ended within `timeout` seconds; it goes on.
            NotFound: There is no such job.
        """
        started = heard = time.monotonic()
        seen = False
        while True:
            pause = POLL_SECONDS
            try:
                response = yield from self._service.request("GET", path_of("jobs", job))
            except ServiceError as error:
                if not (is_passing(error) and seen) or time.monotonic() - heard > away_seconds:
                    raise
            else:
                seen, heard = True, time.monotonic()
                found = parse(Job, response)
                if on_progress:
                    on_progress(found)
                if found.state in ENDED:
                    return found
                pause = retry_after(response) or pause
            if timeout is not None:
                left = started + timeout - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"job {job} has not ended within {timeout:g} s")
                pause = min(pause, left)
            yield Pause(pause)

    @endpoint
    def cancel(self, job: str) -> Steps[Job]:
        """Cancel a job. A job that has ended stays as it is.

        Args:
            job: Its id.

        Returns:
            The job, cancelling or cancelled.

        Raises:
            NotFound: There is no such job.
        """
        return (yield from self._request(Job, "POST", path_of("jobs", job, "cancel")))

    @endpoint
    def append_checkpoint(self, job: str, checkpoint: Checkpoint | str | os.PathLike[str]) -> Steps[Job]:
        """Add a checkpoint to a job that was created with `open=True`, after those that it has.

        Args:
            job: Its id.
            checkpoint: The checkpoint, or its path or hub id.

        Returns:
            The job with the checkpoint.

        Raises:
            NotFound: There is no such job.
            Conflict: The job is not open, or has a checkpoint of this name.
        """
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = Checkpoint(path=os.fspath(checkpoint))
        body = checkpoint.model_dump(mode="json")
        return (yield from self._request(Job, "POST", path_of("jobs", job, "checkpoints"), body=body))

    @endpoint
    def close_job(self, job: str) -> Steps[Job]:
        """Say that an open job gets no more checkpoints: it ends when those that it has are done.

        Args:
            job: Its id.

        Raises:
            NotFound: There is no such job.
        """
        return (yield from self._request(Job, "POST", path_of("jobs", job, "close")))

    @endpoint
    def regrade(self, job: str, grader: GraderChoice, *, name: str = "") -> Steps[Job]:
        """Grade the stored answers of a completed job with another grader, as a new job; no GPU is needed.

        Args:
            job: Id of the job whose answers are graded.
            grader: The grader, with its options.
            name: Name of the new job. Absent: the name of the old one.

        Returns:
            The new job; `wait` for it. Its report shows where the graders disagree.

        Raises:
            NotFound: There is no such job.
            Conflict: The job is not completed.
        """
        body = RegradeRequest(grader=grader, name=name).model_dump(mode="json")
        return (yield from self._request(Job, "POST", path_of("jobs", job, "regrade"), body=body))

    @endpoint
    def resample(self, job: str, samples: int, *, name: str = "") -> Steps[Job]:
        """Draw more answers for a completed job, as a new job that keeps the answers there are.

        Args:
            job: Id of the job that is continued.
            samples: Answers per example and checkpoint, including those there are.
            name: Name of the new job. Absent: the name of the old one.

        Returns:
            The new job; `wait` for it.

        Raises:
            NotFound: There is no such job.
            Conflict: The job is not completed.
        """
        body = ResampleRequest(samples=samples, name=name).model_dump(mode="json")
        return (yield from self._request(Job, "POST", path_of("jobs", job, "samples"), body=body))

    @endpoint
    def import_recorded(self, run: ScoredRun, about: RecordedRun) -> Steps[Job]:
        """Import a run that others scored, as a job. Its questions must have been uploaded as a data set.

        Args:
            run: Accuracies and perplexities of every example at every checkpoint.
            about: What they belong to; `premem.payloads.recordings.described` fills in what the run itself tells.

        Returns:
            The job; `wait` for it.

        Raises:
            NotFound: The data set that it names does not exist.
            InputError: The run does not fit the data set.
        """
        from premem.payloads.recordings import encode  # imports polars, which nothing else here needs

        upload = Upload(io.BytesIO(encode(run, about)))
        timeout = httpx.Timeout(UPLOAD_SECONDS, connect=10.0)
        return (yield from self._request(Job, "POST", "/v1/recorded", upload=upload, timeout=timeout))

    @endpoint
    def health(self) -> Steps[dict[str, Any]]:
        """Ask whether the service is up.

        Returns:
            The body of /healthz, such as `{"status": "ok"}`.

        Raises:
            Unreachable: Nobody answers at the address.
        """
        body = (yield from self._service.request("GET", "/healthz")).json()
        return dict(body) if isinstance(body, Mapping) else {"status": body}
