"""Responses of a service, read: bodies as the types of premem.wire, problems as the errors of premem."""

from __future__ import annotations

import io
import json
import math
import random
from typing import Any, TypeVar

import httpx
from pydantic import ValidationError

from premem.errors import (
    BadLine,
    Conflict,
    InputError,
    NotFound,
    PrememError,
    RowsError,
    ServiceError,
    StaleAttempt,
    Unreachable,
)
from premem.extras import brought_by
from premem.wire.bodies import Problem, Reply
from premem.wire.compatibility import read_reply

PASSING = frozenset({429, 502, 503, 504})
"""Statuses of requests that may succeed a moment later."""
LONGEST_PAUSE_SECONDS = 10.0

ReplyKind = TypeVar("ReplyKind", bound=Reply)


def parse(kind: type[ReplyKind], response: httpx.Response) -> ReplyKind:
    """The body of a successful response as a `kind`. Raises ServiceError where it is none."""
    try:
        return read_reply(kind, response.content)
    except ValidationError as error:
        raise ServiceError(
            f"{_request_line(response)} answered something else than a {kind.__name__}; is this a premem service? {error}",
            status=response.status_code,
        ) from error


def raise_for_problem(response: httpx.Response) -> httpx.Response:
    """The response where it is a success; else raises the error of premem that its problem stands for."""
    if response.is_success:
        return response
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:  # a proxy's page, or no premem service at all
        message = f"{_request_line(response)} answered {response.status_code} {response.reason_phrase}; is this a premem service?"
        raise ServiceError(message, status=response.status_code) from None
    raise _error(response.status_code, problem)


def is_under_way(response: httpx.Response) -> bool:
    """An earlier attempt under the same Idempotency-Key has not been answered yet."""
    return response.status_code == 409 and b"/problems/idempotency-under-way" in response.content


def unreachable(service: str, error: httpx.RequestError) -> Unreachable:
    """Nobody answered: which service, why, and how to start one."""
    reason = str(error) or type(error).__name__
    return Unreachable(
        f"no premem service answers at {service} ({reason}): start one with `premem serve`, "
        "or name the one you mean with --service or PREMEM_SERVICE"
    )


def retry_after(response: httpx.Response) -> float | None:
    """Seconds, at most two minutes; None where the header is absent or a date."""
    try:
        seconds = float(response.headers.get("Retry-After", ""))
    except ValueError:
        return None
    return min(seconds, 120.0) if math.isfinite(seconds) and seconds >= 0 else None


def pause_before_retry(attempt: int, response: httpx.Response | None = None) -> float:
    """Seconds to wait after the `attempt`th (from 1) failed: what the service asks for, or twice as long each time.

    With jitter, so that many clients do not retry at the same moment.
    """
    named = retry_after(response) if response is not None else None
    seconds = min(0.25 * 2 ** (attempt - 1), LONGEST_PAUSE_SECONDS) if named is None else named
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311


def _error(status: int, problem: Problem) -> PrememError:
    message = problem.detail or problem.title
    extras: dict[str, Any] = problem.model_extra or {}
    errors = extras.get("errors") or []
    if problem.type.endswith("/problems/rows"):
        return RowsError(message, [_bad_line(entry) for entry in errors], total=extras.get("total"))
    if status == 422:
        return InputError(message)
    kinds = {404: NotFound, 409: StaleAttempt if problem.type.endswith("/problems/stale-attempt") else Conflict}
    return kinds.get(status, ServiceError)(message, status=status, problem=problem.model_dump())


def _bad_line(entry: dict[str, Any]) -> BadLine:
    return BadLine(line=int(entry.get("line", 0)), field=entry.get("field"), message=str(entry.get("message", "")))


def _request_line(response: httpx.Response) -> str:
    return f"{response.request.method} {response.request.url.copy_with(query=None)}"


def decode_rows(content: bytes) -> list[dict[str, Any]]:
    """The uploaded rows in the Parquet file that the service sends of a data set."""
    with brought_by("frames"):
        import polars

    return [json.loads(row) for row in polars.read_parquet(io.BytesIO(content), columns=["columns"])["columns"]]
