"""A worker's side of the task routes, patient with a service that is away."""

from __future__ import annotations

import io
import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import polars as pl
import structlog
from pydantic import ValidationError

from premem.errors import Conflict, Interrupted, NotFound, ServiceError, StaleAttempt, Unreachable
from premem.records import Example
from premem.wire.bodies import Problem, Reply
from premem.wire.compatibility import read_reply, user_agent
from premem.wire.tasks import AttemptBody, FailureReport, HeartbeatReply, LeasedTask, LeaseRequest, ResultSummary

AWAY = frozenset({429, 502, 503, 504, 507})
"""Answers that time or an administrator mends: asked again for as long as there is somebody to ask for."""
SERVER_ERRORS_BORNE = 5
"""A 500 may be a passing fault of the service's database, or a bug that no patience mends."""

ReplyKind = TypeVar("ReplyKind", bound=Reply)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """No task is waiting."""

    ask_again_seconds: float


class Connection:
    """The task routes of one service. Safe to use from several threads.

    Each call asks at least once, and again with growing pauses while the service is away, until `stopped` turns
    true: then it raises Interrupted. Problems are raised as ServiceError and its kinds.
    """

    def __init__(self, service: str, *, api_key: str | None = None, request_seconds: float = 60.0) -> None:
        headers = {"Accept": "application/json", "User-Agent": user_agent("worker")}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        timeout = httpx.Timeout(request_seconds, connect=min(10.0, request_seconds))
        self.service = service
        self._client = httpx.Client(base_url=service, headers=headers, timeout=timeout)
        self._away_since: float | None = None

    def close(self) -> None:
        self._client.close()

    def lease(self, request: LeaseRequest, *, stopped: Callable[[], bool]) -> LeasedTask | NothingToDo:
        response = self._ask("POST", "/v1/tasks/lease", stopped=stopped, json=request.model_dump(mode="json"))
        if response.status_code == 204:
            return NothingToDo(ask_again_seconds=_retry_after(response) or 2.0)
        return _parsed(LeasedTask, response)

    def heartbeat(self, task: str, attempt: int, *, answer_seconds: float) -> HeartbeatReply:
        """One try only: its caller knows when to try again. Raises Unreachable where the service is away."""
        try:
            response = self._client.post(
                f"/v1/tasks/{task}/heartbeat", json=_attempt(attempt), timeout=httpx.Timeout(answer_seconds)
            )
        except httpx.RequestError as error:
            raise Unreachable(f"no heartbeat reaches {self.service}: {_reason(error)}") from error
        return _parsed(HeartbeatReply, _checked(response))

    def release(self, task: str, attempt: int, *, stopped: Callable[[], bool]) -> None:
        """Give the task back. It counts neither as failed nor as lost."""
        self._ask("POST", f"/v1/tasks/{task}/release", stopped=stopped, json=_attempt(attempt))

    def failure(self, task: str, report: FailureReport, *, stopped: Callable[[], bool]) -> None:
        self._ask("POST", f"/v1/tasks/{task}/failure", stopped=stopped, json=report.model_dump(mode="json"))

    def result(self, task: str, attempt: int, content: bytes, *, stopped: Callable[[], bool]) -> ResultSummary:
        """Hand in a task's Parquet file. The same attempt may hand in twice."""
        response = self._ask(
            "PUT",
            f"/v1/tasks/{task}/result",
            stopped=stopped,
            params={"attempt": attempt},
            content=content,
            headers={"Content-Type": "application/vnd.apache.parquet"},
        )
        return _parsed(ResultSummary, response)

    def source(self, task: str, *, stopped: Callable[[], bool]) -> bytes:
        """The result that a task grades anew."""
        return self._ask("GET", f"/v1/tasks/{task}/source", stopped=stopped).content

    def keep(self, task: str, attempt: int, content: bytes, *, stopped: Callable[[], bool]) -> None:
        """Hand in what is done of a task so far."""
        self._ask(
            "PUT",
            f"/v1/tasks/{task}/partial",
            stopped=stopped,
            params={"attempt": attempt},
            content=content,
            headers={"Content-Type": "application/vnd.apache.parquet"},
        )

    def partial(self, task: str, *, stopped: Callable[[], bool]) -> bytes:
        """What is known of the task's rows already."""
        return self._ask("GET", f"/v1/tasks/{task}/partial", stopped=stopped).content

    def rows(
        self, dataset: str, *, start: int, stop: int, stopped: Callable[[], bool], question_column: str | None = None
    ) -> list[Example]:
        """The examples [start, stop) of a data set, in order.

        With `question_column` the questions are taken from that column of the rows as they were uploaded; one that
        holds no text is empty. Raises ServiceError where the service sends other rows than these.
        """
        response = self._ask(
            "GET", f"/v1/datasets/{dataset}/rows", stopped=stopped, params={"start": start, "stop": stop}
        )
        columns = ["row", "id", "question", "trace", "final_answer", "columns"]
        try:
            frame = pl.read_parquet(io.BytesIO(response.content), columns=columns)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ServiceError(
                f"the rows {start} to {stop - 1} of data set {dataset} cannot be read: {error}"
            ) from error
        if frame["row"].to_list() != list(range(start, stop)):
            raise ServiceError(
                f"asked for the rows {start} to {stop - 1} of data set {dataset}, the service sent others"
            )
        return [
            Example(
                id=id_,
                question=question if question_column is None else _text(uploaded, question_column),
                trace=trace,
                final_answer=final_answer,
            )
            for _, id_, question, trace, final_answer, uploaded in frame.select(columns).iter_rows()
        ]

    def _ask(self, method: str, path: str, *, stopped: Callable[[], bool], **content: Any) -> httpx.Response:
        pause, server_errors = 0.25, 0
        while True:
            try:
                response = self._client.request(method, path, **content)
            except httpx.RequestError as error:
                self._is_away(_reason(error))
                asked_pause = None
            else:
                server_errors += response.status_code == 500
                bearable = response.status_code == 500 and server_errors < SERVER_ERRORS_BORNE
                if response.status_code not in AWAY and not bearable:
                    self._is_there()
                    return _checked(response)
                self._is_away(f"it answers {response.status_code}")
                asked_pause = _retry_after(response)
            _wait(jittered(pause if asked_pause is None else asked_pause), stopped)
            if stopped():
                raise Interrupted(f"stopped while {self.service} was away and {method} {path} unanswered")
            pause = min(pause * 2, 15.0)

    def _is_away(self, reason: str) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            log.warning("the service is away, trying again until it is back", service=self.service, reason=reason)

    def _is_there(self) -> None:
        if self._away_since is not None:
            log.info("the service is back", seconds=round(time.monotonic() - self._away_since, 1))
            self._away_since = None


def jittered(seconds: float) -> float:
    """Within a quarter of `seconds`, so that many workers do not ask in step."""
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311


def _wait(seconds: float, stopped: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stopped():
        time.sleep(min(left, 0.1))


def _text(uploaded: str, column: str) -> str:
    text = json.loads(uploaded).get(column)
    return text if isinstance(text, str) else ""


def _attempt(attempt: int) -> dict[str, Any]:
    return AttemptBody(attempt=attempt).model_dump(mode="json")


def _checked(response: httpx.Response) -> httpx.Response:
    """The response, or its problem raised in premem's words."""
    if response.is_success:
        return response
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:  # a proxy's page, or no premem service at all
        message = f"{response.request.method} {response.request.url} answered {response.status_code}"
        raise _kind(response.status_code, "")(message, status=response.status_code) from None
    raise _kind(response.status_code, problem.type)(
        problem.detail or problem.title, status=response.status_code, problem=problem.model_dump()
    )


def _kind(status: int, problem_type: str) -> type[ServiceError]:
    if problem_type.endswith("/problems/stale-attempt"):
        return StaleAttempt
    return {404: NotFound, 409: Conflict}.get(status, ServiceError)


def _parsed(kind: type[ReplyKind], response: httpx.Response) -> ReplyKind:
    try:
        return read_reply(kind, response.content)
    except ValidationError as error:
        raise ServiceError(
            f"{response.request.method} {response.request.url} answered something else than a {kind.__name__}: {error}",
            status=response.status_code,
        ) from error


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds, at most two minutes; None where the header is absent or a date."""
    try:
        seconds = float(response.headers.get("Retry-After", ""))
    except ValueError:
        return None
    return min(seconds, 120.0) if math.isfinite(seconds) and seconds >= 0 else None


def _reason(error: httpx.RequestError) -> str:
    return str(error) or type(error).__name__
