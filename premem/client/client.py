"""The service's routes as methods: `with Client() as client: job = client.create_job(…)`.

Each stands here once, as a generator of the steps that it takes (asking.py).
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack
from urllib.parse import urlsplit

import httpx

from premem.client.replies import parsed, retry_after, uploaded_rows
from premem.client.routes.exports import Exports
from premem.client.routes.shared import Target, as_query, quoted
from premem.client.routes.tags import TagRoutes
from premem.client.scoring import AsyncScoring, CheckpointLike, Data, Scoring, posted
from premem.client.transport import Asking, Async, Item, Listing, Params, Pause, Steps, Sync, asked, is_passing, listed
from premem.client.upload import Rows, Upload
from premem.errors import InputError, RowsError, ServiceError
from premem.forecasting.rules import RuleName
from premem.forecasting.runs import ScoredRun
from premem.payloads.matrix import ScoreMatrix
from premem.wire.bodies import GraderChoice
from premem.wire.calibrations import CalibrationReply, CalibrationRequest, RecordedRun
from premem.wire.compatibility import user_agent
from premem.wire.curation import AcquireRequest, Acquisition, Choice, Overlap, Selection
from premem.wire.datasets import Columns, Dataset
from premem.wire.estimates import Estimate, WorkerReply
from premem.wire.examples import ExampleDetail, ExamplePage, ScoredExample, Wanted, asked_for
from premem.wire.jobs import ENDED, Checkpoint, Job, JobRequest, Template
from premem.wire.previews import Preview
from premem.wire.reports import JobReport, RegradeRequest, ResampleRequest, SoFar

DEFAULT_SERVICE = "http://127.0.0.1:8321"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
UPLOAD_SECONDS = 3600.0
"""The service grades every reference before it answers."""
CALIBRATION_SECONDS = 3600.0
"""Many runs of a million examples each take long."""


class Routes(Exports, TagRoutes):
    """The service's routes, each once (see asking.py): Client and AsyncClient are what carries them out."""

    def __init__(self, base_url: str | None, attempts: int) -> None:
        self.base_url = (base_url or os.environ.get("PREMEM_SERVICE") or DEFAULT_SERVICE).rstrip("/")
        if not self.base_url.startswith(("http://", "https://")):
            raise InputError(f"{self.base_url!r} is no URL of a service: it must start with http:// or https://")
        try:
            _ = urlsplit(self.base_url).hostname
            httpx.URL(self.base_url)
        except (ValueError, httpx.InvalidURL) as error:
            raise InputError(f"{self.base_url!r} is no URL of a service: {error}") from None
        self._asking = Asking(self.base_url, max(1, attempts))

    # Data sets

    @asked
    def upload(
        self,
        rows: Rows,
        *,
        name: str | None = None,
        grader: str | None = None,
        grader_options: Mapping[str, Any] | None = None,
        columns: Columns | None = None,
        max_ungradable: float | None = None,
        repair_latex: bool | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Steps[Dataset]:
        """A data set out of a path, an open binary file (JSONL or Parquet, plain or compressed), dicts, or a source.

        Sources are `hf://org/name?split=train` and `s3://bucket/key.jsonl`, read here and sent on as they come.

        The same rows are the same data set. `max_ungradable` is the share of rows whose own reference may fail to grade
        as right. `repair_latex` puts back the backslashes of LaTeX that JSON took for escapes; False takes such rows as
        they are, absent they are refused. `progress` is told the bytes sent so far. What can be read only once (a pipe, a generator) is sent
        only once. Raises RowsError with the bad lines; then nothing was kept.
        """
        upload = Upload(rows, progress=progress)
        params: Params = {
            "name": upload.name if name is None else name,
            "grader": grader,
            "grader_options": json.dumps(dict(grader_options)) if grader_options else None,
            "max_ungradable": max_ungradable,
            "repair_latex": None if repair_latex is None else str(repair_latex).lower(),
            **(columns.model_dump(exclude_none=True) if columns else {}),
        }
        timeout = httpx.Timeout(UPLOAD_SECONDS, connect=10.0)
        try:
            return (
                yield from self._told(Dataset, "POST", "/v1/datasets", params=params, upload=upload, timeout=timeout)
            )
        except RowsError as error:
            file = f"{upload.name}: " if upload.name else ""
            raise RowsError(f"{file}{error}", error.lines, total=error.total) from error

    @listed
    def datasets(self) -> Listing[Dataset]:
        """All of them, asked for page by page."""
        return self._pages("/v1/datasets", Dataset)

    @asked
    def dataset(self, dataset: str) -> Steps[Dataset]:
        return (yield from self._told(Dataset, "GET", f"/v1/datasets/{quoted(dataset)}"))

    @asked
    def rows(self, dataset: str, *, start: int = 0, stop: int | None = None) -> Steps[list[dict[str, Any]]]:
        """Rows [start, stop) as they were uploaded; at most 100,000 at once."""
        params: Params = {"start": start, "stop": stop}
        answer = yield from self._asking.ask("GET", f"/v1/datasets/{quoted(dataset)}/rows", params=params)
        return uploaded_rows(answer.content)

    @asked
    def preview(
        self, dataset: str, *, rows: int = 3, template: Template | None = None, checkpoint: str | None = None
    ) -> Steps[Preview]:
        """The first rows as prompt and target, under a template; absent: the paper's.

        With a `checkpoint` that the service may read also as its tokenizer's tokens.
        """
        how = {} if template is None else template.model_dump()
        path = f"/v1/datasets/{quoted(dataset)}/preview"
        return (yield from self._told(Preview, "GET", path, params={"rows": rows, "checkpoint": checkpoint, **how}))

    @asked
    def delete_dataset(self, dataset: str) -> Steps[None]:
        """Raises Conflict where a job uses it."""
        yield from self._asking.ask("DELETE", f"/v1/datasets/{quoted(dataset)}")

    # Jobs

    @asked
    def create_job(self, request: JobRequest, *, idempotency_key: str | None = None) -> Steps[Job]:
        """Under the same key, within a day, the same job; absent: a new key, and so a new job, for every call."""
        body = request.model_dump(mode="json")
        return (yield from self._told(Job, "POST", "/v1/jobs", body=body, idempotency_key=idempotency_key))

    @asked
    def estimate(self, request: JobRequest, *, measured_by: str | None = None) -> Steps[Estimate]:
        """What a job will cost, without starting it. `measured_by`: a completed job whose tasks tell lengths and pace."""
        body, params = request.model_dump(mode="json"), {"dry_run": "true", "measured_by": measured_by}
        return (yield from self._told(Estimate, "POST", "/v1/jobs", body=body, params=params))

    @listed
    def workers(self) -> Listing[WorkerReply]:
        """Those that asked for a task within the last minute, or have one in hand."""
        return self._pages("/v1/workers", WorkerReply)

    @listed
    def jobs(self) -> Listing[Job]:
        """All of them, newest first, asked for page by page."""
        return self._pages("/v1/jobs", Job)

    @asked
    def job(self, job: str) -> Steps[Job]:
        return (yield from self._told(Job, "GET", f"/v1/jobs/{quoted(job)}"))

    @asked
    def wait(
        self,
        job: str,
        *,
        on_progress: Callable[[Job], None] | None = None,
        timeout: float | None = None,
        away_seconds: float = 300.0,
    ) -> Steps[Job]:
        """The job once it has ended: completed, failed or cancelled. `on_progress` sees every look at it.

        Asks as often as the service likes (Retry-After), and bears a service that restarts for `away_seconds`.
        Raises TimeoutError after `timeout` seconds.
        """
        started = heard = time.monotonic()
        seen = False
        while True:
            pause = 2.0
            try:
                response = yield from self._asking.ask("GET", f"/v1/jobs/{quoted(job)}")
            except ServiceError as error:
                if not (is_passing(error) and seen) or time.monotonic() - heard > away_seconds:
                    raise
            else:
                seen, heard = True, time.monotonic()
                found = parsed(Job, response)
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

    @asked
    def cancel(self, job: str) -> Steps[Job]:
        return (yield from self._told(Job, "POST", f"/v1/jobs/{quoted(job)}/cancel"))

    @asked
    def append_checkpoint(self, job: str, checkpoint: Checkpoint | str | os.PathLike[str]) -> Steps[Job]:
        """Raises Conflict where the job is not open."""
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = Checkpoint(path=os.fspath(checkpoint))
        body = checkpoint.model_dump(mode="json")
        return (yield from self._told(Job, "POST", f"/v1/jobs/{quoted(job)}/checkpoints", body=body))

    @asked
    def close_job(self, job: str) -> Steps[Job]:
        """No more checkpoints will come: the job ends when the ones that it has are done."""
        return (yield from self._told(Job, "POST", f"/v1/jobs/{quoted(job)}/close"))

    @asked
    def regrade(self, job: str, grader: GraderChoice, *, name: str = "") -> Steps[Job]:
        """A new job that grades the stored answers of a completed one with another grader. Raises Conflict until then."""
        body = RegradeRequest(grader=grader, name=name).model_dump(mode="json")
        return (yield from self._told(Job, "POST", f"/v1/jobs/{quoted(job)}/regrade", body=body))

    @asked
    def resample(self, job: str, samples: int, *, name: str = "") -> Steps[Job]:
        """A new job that goes on from the answers of a completed one until there are `samples`. Raises Conflict until then."""
        body = ResampleRequest(samples=samples, name=name).model_dump(mode="json")
        return (yield from self._told(Job, "POST", f"/v1/jobs/{quoted(job)}/samples", body=body))

    # What came out of a job

    @asked
    def examples(
        self, job: str, *, limit: int | None = None, cursor: str | None = None, **wanted: Unpack[Wanted]
    ) -> Steps[ExamplePage]:
        """One page of the ranking, the lowest pre-memorization accuracy first, or of what is wanted of it.

        Raises Conflict until completed.
        """
        params: Params = {"limit": limit, "cursor": cursor, **asked_for(wanted)}
        return (yield from self._told(ExamplePage, "GET", f"/v1/jobs/{quoted(job)}/examples", params=params))

    @listed
    def iter_examples(
        self, job: str, *, page_size: int | None = None, **wanted: Unpack[Wanted]
    ) -> Listing[ScoredExample]:
        """The whole ranking, or what is wanted of it, asked for page by page."""
        cursor: str | None = None
        while True:
            page = yield from Routes.examples.steps(self, job, limit=page_size, cursor=cursor, **wanted)
            yield from map(Item, page.items)
            if not (cursor := page.next_cursor):
                return

    @asked
    def example(self, job: str, row: int) -> Steps[ExampleDetail]:
        """One example with its uploaded row and every sampled answer."""
        return (yield from self._told(ExampleDetail, "GET", f"/v1/jobs/{quoted(job)}/examples/{row}"))

    @asked
    def matrix(self, job: str) -> Steps[ScoreMatrix]:
        """Every accuracy and perplexity, in the order of the ranking. Raises Conflict until completed."""
        return ScoreMatrix.decode((yield from self._asking.ask("GET", f"/v1/jobs/{quoted(job)}/matrix")).content)

    @asked
    def selection(self, job: str, *, limit: int | None = None, **choice: Unpack[Choice]) -> Steps[Selection]:
        """What a policy chooses, what that has in common, and a random control of the same size.

        `limit` is how many of each are listed; absent: 10,000.
        """
        params: Params = {"limit": limit, **as_query(choice)}
        return (yield from self._told(Selection, "GET", f"/v1/jobs/{quoted(job)}/selection", params=params))

    @asked
    def overlap(self, job: str, one: Choice, other: Choice, *, limit: int | None = None) -> Steps[Overlap]:
        """How many examples two policies both choose, and how many only the one or the other; the first of each."""
        beside = {f"other_{name}": value for name, value in as_query(other).items()}
        params: Params = {"limit": limit, **as_query(one), **beside}
        return (yield from self._told(Overlap, "GET", f"/v1/jobs/{quoted(job)}/overlap", params=params))

    @asked
    def seeds(
        self,
        job: str,
        target: Target,
        *,
        model: str,
        requests: int = 100,
        instruction: str | None = None,
        **choice: Unpack[Choice],
    ) -> Steps[int]:
        """Write requests for new examples like the chosen ones, for an OpenAI-compatible batch endpoint."""
        params = {**as_query(choice), "model": model, "requests": requests, "instruction": instruction}
        return (yield from self._write(f"/v1/jobs/{quoted(job)}/seeds", params, target))

    @asked
    def acquire(self, job: str, request: AcquireRequest) -> Steps[Acquisition | Job]:
        """The candidates of a pool, another data set, that are most like what a policy chooses.

        By embedding it is a job: `wait` for it, then ask for its `candidates`.
        """
        response = yield from self._asking.ask(
            "POST", f"/v1/jobs/{quoted(job)}/acquire", body=request.model_dump(mode="json")
        )
        return parsed(Job, response) if response.status_code == 202 else parsed(Acquisition, response)

    @asked
    def candidates(self, job: str) -> Steps[Acquisition]:
        """What a job that acquires by embedding found. Raises Conflict until it is completed."""
        return (yield from self._told(Acquisition, "GET", f"/v1/jobs/{quoted(job)}/candidates"))

    @asked
    def report(self, job: str, *, calibration: str | None = None, rule: RuleName | None = None) -> Steps[JobReport]:
        """Per checkpoint. With a calibration (its name or id) or a rule, worked out under that; nothing is stored."""
        params: Params = {"calibration": calibration, "rule": rule}
        return (yield from self._told(JobReport, "GET", f"/v1/jobs/{quoted(job)}/report", params=params))

    @asked
    def so_far(self, job: str) -> Steps[SoFar]:
        """The checkpoints that are wholly scored, of a job that need not have ended."""
        return (yield from self._told(SoFar, "GET", f"/v1/jobs/{quoted(job)}/so-far"))

    # Calibrations

    @asked
    def calibrate(
        self, name: str, jobs: Sequence[str], *, rule: RuleName = "paper", memorized_below: float | None = None
    ) -> Steps[CalibrationReply]:
        """Find the threshold that explains completed jobs best, and keep it under a name. Takes seconds to minutes.

        Raises InputError where the jobs cannot be calibrated together, Conflict where one has not ended or the name is
        taken.
        """
        request = CalibrationRequest(name=name, jobs=list(jobs), rule=rule, memorized_below=memorized_below)
        timeout = httpx.Timeout(CALIBRATION_SECONDS, connect=10.0)
        body = request.model_dump(mode="json")
        return (yield from self._told(CalibrationReply, "POST", "/v1/calibrations", body=body, timeout=timeout))

    @listed
    def calibrations(self) -> Listing[CalibrationReply]:
        """All of them, newest first, asked for page by page."""
        return self._pages("/v1/calibrations", CalibrationReply)

    @asked
    def calibration(self, name: str) -> Steps[CalibrationReply]:
        """By name or id."""
        return (yield from self._told(CalibrationReply, "GET", f"/v1/calibrations/{quoted(name)}"))

    @asked
    def delete_calibration(self, name: str) -> Steps[None]:
        """Raises Conflict where a job that has not ended uses it."""
        yield from self._asking.ask("DELETE", f"/v1/calibrations/{quoted(name)}")

    @asked
    def import_recorded(self, run: ScoredRun, about: RecordedRun) -> Steps[Job]:
        """A run that others recorded, as a job; `wait` for it. Its questions must have been uploaded.

        `premem.payloads.recordings.described` says of a run what can be read off it.
        """
        from premem.payloads.recordings import encode  # brings polars, which nothing else here needs

        upload = Upload(io.BytesIO(encode(run, about)))
        timeout = httpx.Timeout(UPLOAD_SECONDS, connect=10.0)
        return (yield from self._told(Job, "POST", "/v1/recorded", upload=upload, timeout=timeout))

    @asked
    def health(self) -> Steps[dict[str, Any]]:
        """What /healthz says. Raises Unreachable where nobody answers."""
        answer = (yield from self._asking.ask("GET", "/healthz")).json()
        return dict(answer) if isinstance(answer, Mapping) else {"status": answer}


class Client(Routes, Sync):
    """One service. Safe to use from several threads; close it, or use it as a context manager.

    `base_url` is PREMEM_SERVICE where absent (http://127.0.0.1:8321 where that is absent, too), `api_key`
    PREMEM_API_KEY. `timeout` is what one answer may take, in seconds. A call whose answer is lost, or 429, 502, 503 or
    504, is made `attempts` times; a POST carries an Idempotency-Key, so that it takes effect once.

    Every method raises Unreachable where nobody answers, NotFound, Conflict, InputError or RowsError for what the
    service says is wrong with the request, and ServiceError for everything else that is no success.
    """

    def __init__(
        self, base_url: str | None = None, api_key: str | None = None, *, timeout: float = 60.0, attempts: int = 4
    ) -> None:
        super().__init__(base_url, attempts)
        self._http = httpx.Client(**_settings(self.base_url, api_key, timeout))

    def score(
        self,
        data: Data,
        checkpoints: Sequence[CheckpointLike],
        *,
        test: Data | None = None,
        upload: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Scoring:
        """Post a job over data (uploaded here, or a data set or its id) and checkpoints, in the order of their steps.

        `upload` holds arguments of `upload`, such as `grader`; `settings` fields of JobRequest, such as `memorized_below`.
        `client.score("train.jsonl", paths).wait(progress=True)`. Raises InputError where they do not fit.
        """
        steps = posted(self, data, checkpoints, test=test, upload=upload or {}, settings=settings)
        return Scoring(self, self._run(steps))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(Routes, Async):
    """The methods of Client, to be awaited; those that list are for `async for`. Otherwise like Client.

    `async with AsyncClient() as client: job = await client.job("job_…")`
    """

    def __init__(
        self, base_url: str | None = None, api_key: str | None = None, *, timeout: float = 60.0, attempts: int = 4
    ) -> None:
        super().__init__(base_url, attempts)
        self._http = httpx.AsyncClient(**_settings(self.base_url, api_key, timeout))

    async def score(
        self,
        data: Data,
        checkpoints: Sequence[CheckpointLike],
        *,
        test: Data | None = None,
        upload: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> AsyncScoring:
        """Like Client.score; what it returns is waited for with `await scoring.wait(progress=True)`."""
        steps = posted(self, data, checkpoints, test=test, upload=upload or {}, settings=settings)
        return AsyncScoring(self, await self._run(steps))

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _settings(base_url: str, api_key: str | None, timeout: float) -> dict[str, Any]:
    """Of either client of httpx."""
    headers = {"User-Agent": user_agent("client")}
    if api_key := (api_key or os.environ.get("PREMEM_API_KEY", "")).strip():
        if not (api_key.isascii() and api_key.isprintable()):
            raise InputError("the API key holds characters that no key has: it looks like pmk_<id>_<secret>")
        headers["Authorization"] = f"Bearer {api_key}"
    return {
        "headers": headers,
        "timeout": httpx.Timeout(timeout, connect=min(10.0, timeout)),
        # Proxies of the environment do not lead to this machine.
        "trust_env": urlsplit(base_url).hostname not in LOOPBACK,
    }
