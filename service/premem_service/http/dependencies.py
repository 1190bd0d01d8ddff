"""What routes are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.routing import APIRoute

from premem_service.http.metrics import Metrics
from premem_service.http.problems import FieldError
from premem_service.http.unknown_fields import unknown_field
from premem_service.settings import Settings
from premem_service.storage.db import Database
from premem_service.storage.store import Store


def refuse_unknown_parameters(request: Request) -> None:
    """What a newer client asks for in the query, or a mistyped name, must not be ignored. Raises FieldError."""
    route = request.scope["route"]
    if not request.query_params or not isinstance(route, APIRoute):
        return
    known = [parameter.alias for parameter in get_flat_dependant(route.dependant).query_params]
    for name in request.query_params:
        if name not in known:
            raise FieldError(name, unknown_field(name, known, request, what="query parameter"))


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


def _wake(request: Request) -> Callable[[], None]:
    wake: Callable[[], None] = request.app.state.rounds.wake
    return wake


DatabaseGiven = Annotated[Database, Depends(_database)]
StoreGiven = Annotated[Store, Depends(_store)]
SettingsGiven = Annotated[Settings, Depends(_settings)]
MetricsGiven = Annotated[Metrics, Depends(_metrics)]
Wake = Annotated[Callable[[], None], Depends(_wake)]
"""Tells the rounds that there is a job to finalize."""

Cursor = Annotated[
    str | None, Query(max_length=500, description="`next_cursor` of the page before; absent: the first.")
]
Limit = Annotated[int, Query(ge=1, le=1000, description="Items per page.")]
