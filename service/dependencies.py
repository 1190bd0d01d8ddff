"""What routes are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request

from service.db import Database
from service.settings import Settings
from service.store import Store


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


DatabaseGiven = Annotated[Database, Depends(_database)]
StoreGiven = Annotated[Store, Depends(_store)]
SettingsGiven = Annotated[Settings, Depends(_settings)]

Cursor = Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before; absent: the first.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="Items per page.")]
