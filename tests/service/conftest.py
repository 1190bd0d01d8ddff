"""The service over SQLite and over a real PostgreSQL, asked through HTTP in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from sqlalchemy import create_engine, text
from starlette.testclient import TestClient

from premem_service import logs
from premem_service.app import create_app
from premem_service.settings import Settings
from premem_service.storage.db import Database
from tests.postgres import postgres_server
from tests.service.serving import POSTGRES, upload


@pytest.fixture(autouse=True)
def _logs() -> None:
    logs.configure(level=logging.ERROR)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a server's own database."""
    with postgres_server() as url:
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("ALTER SYSTEM SET fsync = off"))  # no power cut is among the tests
            connection.execute(text("SELECT pg_reload_conf()"))
        engine.dispose()
        yield url


@pytest.fixture
def empty_postgres(postgres: str) -> Iterator[str]:
    """URL of a new database."""
    name = f"premem_{uuid4().hex}"
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield engine.url.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture(params=["sqlite", POSTGRES])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'premem.db'}"
    url: str = request.getfixturevalue("empty_postgres")
    return url


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, database_url=database_url, round_seconds=0.05)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Migrated."""
    database = Database(database_url)
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def dataset(client: TestClient) -> str:
    """Id of twelve questions."""
    return upload(client, rows=12)


@pytest.fixture
def post_job(client: TestClient, dataset: str) -> Callable[..., str]:
    """Posts a job over `dataset` with two checkpoints and four rows per task; returns its id."""

    def post(**changes: Any) -> str:
        request = {
            "dataset": dataset,
            "checkpoints": [{"path": "/runs/checkpoint-1"}, {"path": "/runs/checkpoint-2"}],
            "sampling": {"samples": 2},
            "memorized_below": 1.2,
            "shard_rows": 4,
            "trajectory": "everything",
        }
        answer = client.post("/v1/jobs", json={**request, **changes})
        assert answer.status_code == 202, answer.text
        job: str = answer.json()["id"]
        return job

    return post
