"""The service's routes as methods: `with Client() as client: job = client.create_job(…)`."""

from __future__ import annotations

import io
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self, Unpack
from urllib.parse import quote, urlsplit

import httpx

from premem.errors import InputError, ServiceError, Unreachable
from premem.files import whole_file
from premem.replies import (
    PASSING,
    ReplyKind,
    checked,
    is_under_way,
    parsed,
    pause_before_retry,
    retry_after,
    unreachable,
)
from premem.rules import RuleName
from premem.runs import ScoredRun
from premem.upload import Rows, Upload
from premem.wire import (
    ENDED,
    Checkpoint,
    Columns,
    Dataset,
    ExampleDetail,
    ExamplePage,
    GraderChoice,
    Job,
    JobRequest,
    Page,
    ScoredExample,
)
from premem.wire_calibrations import CalibrationReply, CalibrationRequest, RecordedRun
from premem.wire_curation import AcquireRequest, Acquisition, Choice, Group, Selection
from premem.wire_reports import JobReport, RegradeRequest, SoFar

DEFAULT_SERVICE = "http://127.0.0.1:8321"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
UPLOAD_SECONDS = 3600.0
"""The service grades every reference before it answers."""
CALIBRATION_SECONDS = 3600.0
"""Many runs of a million examples each take long."""
UNDER_WAY_SECONDS = 120.0
"""The service gives up a first attempt that died with it after 60."""
Params = Mapping[str, str | float | None]
Target = str | os.PathLike[str] | IO[bytes]
"""A file, or a stream that is open for writing."""
RowsFormat = Literal["jsonl", "parquet"]


class Client:
    """One service. Safe to use from several threads; close it, or use it as a context manager.

    `base_url` is PREMEM_SERVICE where absent (http://127.0.0.1:8321 where that is absent, too), `api_key`
    PREMEM_API_KEY. `timeout` is what one answer may take, in seconds. A call whose answer is lost, or 429, 502, 503 or
    504, is made `attempts` times; a POST carries an Idempotency-Key, so that it takes effect once.

    Every method raises Unreachable where nobody answers, NotFound, Conflict, InputError or RowsError for what the
    service says is wrong with the request, and ServiceError for everything else that is no success.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        attempts: int = 4,
    ) -> None:
        self.base_url = (base_url or os.environ.get("PREMEM_SERVICE") or DEFAULT_SERVICE).rstrip("/")
        if not self.base_url.startswith(("http://", "https://")):
            raise InputError(f"{self.base_url!r} is no URL of a service: it must start with http:// or https://")
        try:
            host = urlsplit(self.base_url).hostname
            httpx.URL(self.base_url)
        except (ValueError, httpx.InvalidURL) as error:
            raise InputError(f"{self.base_url!r} is no URL of a service: {error}") from None
        headers = {"User-Agent": "premem-client"}
        if api_key := (api_key or os.environ.get("PREMEM_API_KEY", "")).strip():
            if not (api_key.isascii() and api_key.isprintable()):
                raise InputError("the API key holds characters that no key has: it looks like pmk_<id>_<secret>")
            headers["Authorization"] = f"Bearer {api_key}"
        self._attempts = max(1, attempts)
        self._client = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(timeout, connect=min(10.0, timeout)),
            # Proxies of the environment do not lead to this machine.
            trust_env=host not in LOOPBACK,
        )

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # Data sets

    def upload(
        self,
        rows: Rows,
        *,
        name: str | None = None,
        grader: str | None = None,
        grader_options: Mapping[str, Any] | None = None,
        columns: Columns | None = None,
        max_ungradable: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Dataset:
        """A data set out of a path, an open binary file (JSONL or Parquet, plain or compressed), or dicts.

        The same rows are the same data set. `max_ungradable` is the share of rows whose own reference may fail to grade
        as right. `progress` is told the bytes sent so far. What can be read only once (a pipe, a generator) is sent
        only once. Raises RowsError with the bad lines; then nothing was kept.
        """
        upload = Upload(rows, progress=progress)
        params: Params = {
            "name": upload.name if name is None else name,
            "grader": grader,
            "grader_options": json.dumps(dict(grader_options)) if grader_options else None,
            "max_ungradable": max_ungradable,
            **(columns.model_dump(exclude_none=True) if columns else {}),
        }
        timeout = httpx.Timeout(UPLOAD_SECONDS, connect=10.0)
        return parsed(Dataset, self._ask("POST", "/v1/datasets", params=params, upload=upload, timeout=timeout))

    def datasets(self) -> Iterator[Dataset]:
        """All of them, asked for page by page."""
        return self._pages("/v1/datasets", Dataset)

    def dataset(self, dataset: str) -> Dataset:
        return parsed(Dataset, self._ask("GET", f"/v1/datasets/{_quoted(dataset)}"))

    def delete_dataset(self, dataset: str) -> None:
        """Raises Conflict where a job uses it."""
        self._ask("DELETE", f"/v1/datasets/{_quoted(dataset)}")

    # Jobs

    def create_job(self, request: JobRequest, *, idempotency_key: str | None = None) -> Job:
        """Under the same key, within a day, the same job; absent: a new key, and so a new job, for every call."""
        body = request.model_dump(mode="json")
        return parsed(Job, self._ask("POST", "/v1/jobs", body=body, idempotency_key=idempotency_key))

    def jobs(self) -> Iterator[Job]:
        """All of them, newest first, asked for page by page."""
        return self._pages("/v1/jobs", Job)

    def job(self, job: str) -> Job:
        return parsed(Job, self._ask("GET", f"/v1/jobs/{_quoted(job)}"))

    def wait(
        self,
        job: str,
        *,
        on_progress: Callable[[Job], None] | None = None,
        timeout: float | None = None,
        away_seconds: float = 300.0,
    ) -> Job:
        """The job once it has ended: completed, failed or cancelled. `on_progress` sees every look at it.

        Asks as often as the service likes (Retry-After), and bears a service that restarts for `away_seconds`.
        Raises TimeoutError after `timeout` seconds.
        """
        started = heard = time.monotonic()
        seen = False
        while True:
            pause = 2.0
            try:
                response = self._ask("GET", f"/v1/jobs/{_quoted(job)}")
            except ServiceError as error:
                away = isinstance(error, Unreachable) or error.status in PASSING
                if not (away and seen) or time.monotonic() - heard > away_seconds:
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
            time.sleep(pause)

    def cancel(self, job: str) -> Job:
        return parsed(Job, self._ask("POST", f"/v1/jobs/{_quoted(job)}/cancel"))

    def append_checkpoint(self, job: str, checkpoint: Checkpoint | str | os.PathLike[str]) -> Job:
        """Raises Conflict where the job is not open."""
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = Checkpoint(path=os.fspath(checkpoint))
        body = checkpoint.model_dump(mode="json")
        return parsed(Job, self._ask("POST", f"/v1/jobs/{_quoted(job)}/checkpoints", body=body))

    def close_job(self, job: str) -> Job:
        """No more checkpoints will come: the job ends when the ones that it has are done."""
        return parsed(Job, self._ask("POST", f"/v1/jobs/{_quoted(job)}/close"))

    def regrade(self, job: str, grader: GraderChoice, *, name: str = "") -> Job:
        """A new job that grades the stored answers of a completed one with another grader. Raises Conflict until then."""
        body = RegradeRequest(grader=grader, name=name).model_dump(mode="json")
        return parsed(Job, self._ask("POST", f"/v1/jobs/{_quoted(job)}/regrade", body=body))

    # What came out of a job

    def examples(self, job: str, *, limit: int | None = None, cursor: str | None = None) -> ExamplePage:
        """One page of the ranking, the lowest pre-memorization accuracy first. Raises Conflict until completed."""
        params: Params = {"limit": limit, "cursor": cursor}
        return parsed(ExamplePage, self._ask("GET", f"/v1/jobs/{_quoted(job)}/examples", params=params))

    def iter_examples(self, job: str, *, page_size: int | None = None) -> Iterator[ScoredExample]:
        """The whole ranking, asked for page by page."""
        cursor: str | None = None
        while True:
            page = self.examples(job, limit=page_size, cursor=cursor)
            yield from page.items
            if not (cursor := page.next_cursor):
                return

    def example(self, job: str, row: int) -> ExampleDetail:
        """One example with its uploaded row and every sampled answer."""
        return parsed(ExampleDetail, self._ask("GET", f"/v1/jobs/{_quoted(job)}/examples/{row}"))

    def selection(self, job: str, **choice: Unpack[Choice]) -> Selection:
        """What a policy chooses, what that has in common, and a random control of the same size."""
        return parsed(Selection, self._ask("GET", f"/v1/jobs/{_quoted(job)}/selection", params=_asked(choice)))

    def curated(
        self,
        job: str,
        target: Target,
        *,
        group: Group = "chosen",
        format: RowsFormat = "jsonl",  # noqa: A002 (the route's own word)
        **choice: Unpack[Choice],
    ) -> int:
        """Write the uploaded rows that a policy chooses (absent: those under 0.5, the lowest first), or the control.

        A path is written whole or not at all. Returns the number of rows.
        """
        params = {**_asked(choice), "group": group, "format": format}
        return self._write(f"/v1/jobs/{_quoted(job)}/curated", params, target)

    def weights(
        self,
        job: str,
        target: Target,
        *,
        floor: float = 0.1,
        format: RowsFormat = "jsonl",  # noqa: A002
    ) -> int:
        """Write row, id and weight of every row, for a WeightedRandomSampler: 1 - score, at least `floor` of that."""
        return self._write(f"/v1/jobs/{_quoted(job)}/weights", {"floor": floor, "format": format}, target)

    def seeds(
        self,
        job: str,
        target: Target,
        *,
        model: str,
        requests: int = 100,
        instruction: str | None = None,
        **choice: Unpack[Choice],
    ) -> int:
        """Write requests for new examples like the chosen ones, for an OpenAI-compatible batch endpoint."""
        params = {**_asked(choice), "model": model, "requests": requests, "instruction": instruction}
        return self._write(f"/v1/jobs/{_quoted(job)}/seeds", params, target)

    def acquire(self, job: str, request: AcquireRequest) -> Acquisition | Job:
        """The candidates of a pool, another data set, that are most like what a policy chooses.

        By embedding it is a job: `wait` for it, then ask for its `candidates`.
        """
        response = self._ask("POST", f"/v1/jobs/{_quoted(job)}/acquire", body=request.model_dump(mode="json"))
        return parsed(Job, response) if response.status_code == 202 else parsed(Acquisition, response)

    def candidates(self, job: str) -> Acquisition:
        """What a job that acquires by embedding found. Raises Conflict until it is completed."""
        return parsed(Acquisition, self._ask("GET", f"/v1/jobs/{_quoted(job)}/candidates"))

    def report(self, job: str, *, calibration: str | None = None, rule: RuleName | None = None) -> JobReport:
        """Per checkpoint. With a calibration (its name or id) or a rule, worked out under that; nothing is stored."""
        params: Params = {"calibration": calibration, "rule": rule}
        return parsed(JobReport, self._ask("GET", f"/v1/jobs/{_quoted(job)}/report", params=params))

    def so_far(self, job: str) -> SoFar:
        """The checkpoints that are wholly scored, of a job that need not have ended."""
        return parsed(SoFar, self._ask("GET", f"/v1/jobs/{_quoted(job)}/so-far"))

    # Calibrations

    def calibrate(
        self, name: str, jobs: Sequence[str], *, rule: RuleName = "paper", memorized_below: float | None = None
    ) -> CalibrationReply:
        """Find the threshold that explains completed jobs best, and keep it under a name. Takes seconds to minutes.

        Raises InputError where the jobs cannot be calibrated together, Conflict where one has not ended or the name is
        taken.
        """
        request = CalibrationRequest(name=name, jobs=list(jobs), rule=rule, memorized_below=memorized_below)
        timeout = httpx.Timeout(CALIBRATION_SECONDS, connect=10.0)
        body = request.model_dump(mode="json")
        return parsed(CalibrationReply, self._ask("POST", "/v1/calibrations", body=body, timeout=timeout))

    def calibrations(self) -> Iterator[CalibrationReply]:
        """All of them, newest first, asked for page by page."""
        return self._pages("/v1/calibrations", CalibrationReply)

    def calibration(self, name: str) -> CalibrationReply:
        """By name or id."""
        return parsed(CalibrationReply, self._ask("GET", f"/v1/calibrations/{_quoted(name)}"))

    def delete_calibration(self, name: str) -> None:
        """Raises Conflict where a job that has not ended uses it."""
        self._ask("DELETE", f"/v1/calibrations/{_quoted(name)}")

    def import_recorded(self, run: ScoredRun, about: RecordedRun) -> Job:
        """A run that others recorded, as a job; `wait` for it. Its questions must have been uploaded.

        `premem.recordings.described` says of a run what can be read off it.
        """
        from premem.recordings import encode  # brings polars, which nothing else here needs

        upload = Upload(io.BytesIO(encode(run, about)))
        timeout = httpx.Timeout(UPLOAD_SECONDS, connect=10.0)
        return parsed(Job, self._ask("POST", "/v1/recorded", upload=upload, timeout=timeout))

    def health(self) -> dict[str, Any]:
        """What /healthz says. Raises Unreachable where nobody answers."""
        answer = self._ask("GET", "/healthz").json()
        return dict(answer) if isinstance(answer, Mapping) else {"status": answer}

    # How all of them ask

    def _pages(self, path: str, kind: type[ReplyKind]) -> Iterator[ReplyKind]:
        cursor: str | None = None
        while True:
            response = self._ask("GET", path, params={"cursor": cursor})
            page = parsed(Page[kind], response)  # type: ignore[valid-type]
            yield from page.items
            if not (cursor := page.next_cursor):
                return

    def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: object = None,
        upload: Upload | None = None,
        timeout: httpx.Timeout | None = None,
        idempotency_key: str | None = None,
    ) -> httpx.Response:
        """A successful answer, or its problem raised."""
        headers = {"Accept": "application/json"}
        if method == "POST":
            headers["Idempotency-Key"] = idempotency_key or uuid.uuid4().hex
        if upload:
            headers["Content-Type"] = upload.content_type
        patience_ends = time.monotonic() + UNDER_WAY_SECONDS
        attempt = 1
        while True:
            may_retry = attempt < self._attempts
            content = upload.blocks() if upload else None
            try:
                response = self._client.request(
                    method,
                    self.base_url + path,
                    params=_given(params),
                    headers=headers,
                    json=body,
                    content=content,
                    timeout=timeout or self._client.timeout,
                )
            except httpx.RequestError as error:
                if not may_retry or (upload and upload.spent):
                    raise unreachable(self.base_url, error) from error
                pause = pause_before_retry(attempt)
            else:
                if is_under_way(response) and time.monotonic() < patience_ends:
                    time.sleep(pause_before_retry(1, response))
                    continue
                if response.status_code not in PASSING or not may_retry or (upload and upload.spent):
                    if method == "DELETE" and attempt > 1 and response.status_code == 404:
                        return response  # an earlier attempt took effect, and its answer was lost
                    return checked(response)
                pause = pause_before_retry(attempt, response)
            time.sleep(pause)
            attempt += 1

    def _write(self, path: str, params: Params, target: Target) -> int:
        """Rows into a stream, once, or into a file, which is there whole or not at all. Returns how many."""
        if not isinstance(target, str | os.PathLike):
            return self._download(path, params, target)
        attempt = 1
        while True:
            try:
                with whole_file(Path(target)) as out:
                    return self._download(path, params, out)
            except ServiceError as error:
                passing = isinstance(error, Unreachable) or error.status in PASSING
                if not passing or attempt == self._attempts:
                    raise
            time.sleep(pause_before_retry(attempt))
            attempt += 1

    def _download(self, path: str, params: Params, out: IO[bytes]) -> int:
        """One attempt. Returns the number of rows that the service says it sends."""
        try:
            with self._client.stream("GET", self.base_url + path, params=_given(params)) as response:
                if not response.is_success:
                    response.read()
                checked(response)
                for block in response.iter_bytes():
                    out.write(block)
                return int(response.headers.get("X-Premem-Rows", 0))
        except httpx.RequestError as error:
            raise unreachable(self.base_url, error) from error


def _asked(choice: Choice) -> dict[str, str | float | None]:
    return {name: value for name, value in choice.items() if isinstance(value, str | float | int)}


def _given(params: Params | None) -> dict[str, str | float]:
    return {name: value for name, value in (params or {}).items() if value is not None}


def _quoted(name: str) -> str:
    return quote(name, safe="")
