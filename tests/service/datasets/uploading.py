"""An uploader's hands, and what the service keeps of the uploads."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import polars as pl
from fastapi import FastAPI
from fastapi.testclient import TestClient


def rows(count: int, **extra: Any) -> list[dict[str, Any]]:
    return [{"question": f"What is {n} + 1?", "answer": f"One more.\n#### {n + 1}", **extra} for n in range(count)]


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def upload(client: TestClient, content: bytes, **params: Any) -> dict[str, Any]:
    response = client.post("/v1/datasets", content=content, params=params)
    assert response.status_code in (200, 201), response.text
    return response.json()


def refused(client: TestClient, content: bytes, status: int = 422, **params: Any) -> dict[str, Any]:
    """The problem that an upload gets; and nothing of it was kept."""
    response = client.post("/v1/datasets", content=content, params=params)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert left(client) == []
    return response.json()


def left(client: TestClient) -> list[str]:
    app = client.app
    assert isinstance(app, FastAPI)
    return files(app)


def files(app: FastAPI) -> list[str]:
    """All files of the service: artifacts and temporary ones."""
    temporary = app.state.settings.data_dir / "temporary"
    under_way = [path.name for path in temporary.iterdir()] if temporary.exists() else []
    return [artifact.name for artifact in app.state.store.list()] + under_way


def as_frame(response: httpx.Response) -> pl.DataFrame:
    assert response.status_code == 200, response.text
    return pl.read_parquet(io.BytesIO(response.content))


def wait_until(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
