"""Errors in the domain's words become RFC 9457 problems here, and only here.

PrememError
├── InputError          422 /problems/validation
│   ├── FieldError      422 /problems/validation, naming the field
│   └── RowsError       422 /problems/rows, naming the lines
├── NotFound            404 /problems/not-found
├── Conflict            409 /problems/conflict
│   └── StaleAttempt    409 /problems/stale-attempt
├── TooLarge            413 /problems/too-large
├── StoreError          503 /problems/store
│   ├── StoreFull       507 /problems/store-full
│   └── ArtifactLost    500 /problems/artifact-lost
└── anything else       500 /problems/internal
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from premem.errors import Conflict, InputError, NotFound, PrememError, RowsError, StaleAttempt
from premem.wire.bodies import Problem
from premem_service.http.unknown_fields import fields_beside, unknown_field
from premem_service.storage.store import ArtifactLost, StoreError, StoreFull

MEDIA_TYPE = "application/problem+json"
SHOWN_LINES = 100

log = structlog.get_logger(__name__)


class FieldError(InputError):
    """One field of a request cannot be taken."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class TooLarge(PrememError):
    """The request is longer than the service takes."""


class ProblemResponse(Response):
    """A problem as an ASGI answer, for routes and middleware alike."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        status: int,
        type_: str,
        detail: str,
        *,
        instance: str | None,
        headers: Mapping[str, str] | None = None,
        **extras: Any,
    ) -> None:
        problem = Problem(
            type=f"/problems/{type_}",
            title=HTTPStatus(status).phrase,
            status=status,
            detail=_speakable(detail),
            instance=instance,
            **extras,
        )
        super().__init__(problem.model_dump_json(), status_code=status, headers=dict(headers or {}))


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route: which problems it answers with."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(PrememError, _premem)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(OperationalError, _database)
    app.add_exception_handler(DataError, _data)
    app.add_exception_handler(Exception, _unexpected)


def of(error: PrememError, *, instance: str | None) -> ProblemResponse:
    """The problem that an error is to whoever asked."""
    detail = str(error)
    if isinstance(error, RowsError):
        lines = [
            {"line": bad.line, "field": bad.field, "message": _speakable(bad.message)}
            for bad in error.lines[:SHOWN_LINES]
        ]
        return ProblemResponse(422, "rows", detail, instance=instance, errors=lines, total=error.total)
    if isinstance(error, FieldError):
        errors = [{"field": error.field, "message": _speakable(error.message)}]
        return ProblemResponse(422, "validation", detail, instance=instance, errors=errors)
    for kind, status, type_ in _KINDS:
        if isinstance(error, kind):
            # A full disk may be emptied, a store may come back.
            headers = {"Retry-After": "10"} if status in (503, 507) else None
            return ProblemResponse(status, type_, detail, instance=instance, headers=headers)
    log.error("an error without a problem of its own", error=repr(error))
    return ProblemResponse(500, "internal", detail, instance=instance)


_KINDS: Sequence[tuple[type[PrememError], int, str]] = (
    (InputError, 422, "validation"),
    (StaleAttempt, 409, "stale-attempt"),
    (Conflict, 409, "conflict"),
    (NotFound, 404, "not-found"),
    (TooLarge, 413, "too-large"),
    (StoreFull, 507, "store-full"),
    (ArtifactLost, 500, "artifact-lost"),
    (StoreError, 503, "store"),
)


async def _premem(request: Request, error: Exception) -> Response:
    assert isinstance(error, PrememError)  # noqa: S101  (registered for it)
    return of(error, instance=request.url.path)


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    errors = [
        {"field": _field(fault["loc"]), "message": _speakable(_message(request, fault))} for fault in error.errors()
    ]
    detail = "; ".join(f"{fault['field']}: {fault['message']}" for fault in errors[:5])
    return ProblemResponse(422, "validation", detail, instance=request.url.path, errors=errors[:SHOWN_LINES])


def _message(request: Request, fault: Mapping[str, Any]) -> str:
    if fault["type"] == "extra_forbidden":
        location = fault["loc"][1:]
        return unknown_field(str(location[-1]), fields_beside(request, location), request)
    return str(fault["msg"]).removeprefix("Value error, ")


def _field(location: Sequence[object]) -> str:
    """("body", "sampling", "samples") → sampling.samples; the bare place where it is no field."""
    places = [str(place) for place in location]
    return _speakable(".".join(places[1:]) or places[0])


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    type_ = {401: "unauthorized", 404: "not-found", 405: "method-not-allowed", 413: "too-large"}.get(
        error.status_code, "http"
    )
    return ProblemResponse(
        error.status_code, type_, str(error.detail), instance=request.url.path, headers=error.headers
    )


async def _database(request: Request, error: Exception) -> Response:
    assert isinstance(error, OperationalError)  # noqa: S101
    log.error("the database failed", path=request.url.path, error=str(error.orig))
    if isinstance(error.orig, sqlite3.Error) and "full" in str(error.orig):
        detail = "no room is left for the database: free some space and try again"
        return ProblemResponse(507, "store-full", detail, instance=request.url.path, headers={"Retry-After": "10"})
    detail = "the database does not answer; nothing was changed"
    return ProblemResponse(503, "database", detail, instance=request.url.path, headers={"Retry-After": "2"})


async def _data(request: Request, error: Exception) -> Response:
    """PostgreSQL cannot hold everything that JSON can: NUL characters, integers past 64 bits."""
    detail = "a value in the request cannot be stored: a NUL character, or a number that is too large"
    return ProblemResponse(422, "validation", detail, instance=request.url.path)


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("a request failed", path=request.url.path, exc_info=error)
    detail = "something went wrong in the service; its log says what"
    return ProblemResponse(500, "internal", detail, instance=request.url.path)


def _speakable(text: str) -> str:
    """Half a surrogate pair cannot be sent."""
    return text.encode("utf-8", "backslashreplace").decode()


class Translation:
    """Middleware: problems for what other middleware raises; routes have the handlers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except (PrememError, OperationalError, HTTPException) as error:
            if started or scope["type"] != "http":
                raise
            handler = {PrememError: _premem, OperationalError: _database, HTTPException: _http}
            kind = next(kind for kind in handler if isinstance(error, kind))
            await (await handler[kind](Request(scope), error))(scope, receive, send)
