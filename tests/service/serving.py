"""A service's databases, and a data set in it."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)


on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For tests of what the database has no part in."""


def upload(client: TestClient, *, rows: int, offset: int = 0) -> str:
    lines = [
        json.dumps({"question": f"What is {n} + 1?", "answer": f"It is {n + 1}.\n#### {n + 1}", "topic": n % 3})
        for n in range(offset, offset + rows)
    ]
    answer = client.post("/v1/datasets", content="\n".join(lines))
    assert answer.status_code in (200, 201), answer.text
    dataset: str = answer.json()["id"]
    return dataset
