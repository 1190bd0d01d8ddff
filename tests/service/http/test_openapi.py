"""The OpenAPI description, and the service asked at random by it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from premem_service.app import create_app
from premem_service.settings import Settings
from tests.end_to_end.processes import await_that
from tests.service.serving import POSTGRES, on_sqlite, upload
from tests.service.working import ended, must_lease, work_off

schemathesis.serializer.alias("application/vnd.apache.parquet", "application/octet-stream")
schemathesis.serializer.alias("application/jsonl", "application/octet-stream")

EXAMPLES = 10
"""Per route and kind of request; there are some twenty-five routes."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module", params=["sqlite", POSTGRES])
def asked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """URL of a service that listens, and the ids of what it holds: a completed job and one that runs."""
    folder = tmp_path_factory.mktemp("service")
    url = f"sqlite:///{folder / 'premem.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres")
    server = uvicorn.Server(
        uvicorn.Config(create_app(Settings(data_dir=folder, database_url=url)), port=0, log_config=None)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    await_that(lambda: server.started, seconds=60, what="the service to listen")
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}", _furnish(f"http://127.0.0.1:{port}")
    server.should_exit = True
    thread.join(timeout=30)


def _furnish(url: str) -> dict[str, list[str]]:
    with httpx.Client(base_url=url) as client:
        dataset = upload(client, rows=8)
        body = {"dataset": dataset, "checkpoints": [{"path": "/r/1"}], "sampling": {"samples": 2}}
        completed = client.post("/v1/jobs", json=body).json()["id"]
        work_off(client)
        ended(client, completed)
        running = client.post("/v1/jobs", json={**body, "open": True}).json()["id"]
        return {
            "job": [completed, running],
            "dataset": [dataset],
            "task": [must_lease(client)["id"]],
            "tag": ["excluded", "looked-at"],
        }


@pytest.mark.timeout(280)
def test_whatever_is_asked_is_answered_as_described(asked):
    url, there = asked
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    failures = []

    for operation in (found.ok() for found in schema.get_all_operations()):
        if operation.path.endswith("/events"):
            continue  # the stream of an open job has no end
        for mode in GenerationMode:
            try:
                failures += _ask(operation, mode, there)
            except Unsatisfiable:
                continue  # nothing can be wrong about it

    assert failures == []


def _ask(operation: Any, mode: GenerationMode, there: dict[str, list[str]]) -> list[str]:
    failures: list[str] = []
    count = 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        nonlocal count
        count += 1
        for name, ids in there.items():  # two of three requests concern something that there is
            if name in (case.path_parameters or {}) and count % 3:
                case.path_parameters[name] = ids[count % len(ids)]
        answer = case.call(timeout=20)
        if answer.content == b"Invalid HTTP request received.":
            return  # no HTTP at all: it did not get as far as the application
        try:
            case.validate_response(answer, checks=CHECKS)
        except BaseExceptionGroup as group:
            failures.append(f"{operation.label}: {[str(error) for error in group.exceptions]}")
        except AssertionError as error:
            failures.append(f"{operation.label}: {error}")

    ask()
    return failures


@on_sqlite
def test_every_v1_route_describes_its_problems(client):
    described = client.get("/openapi.json").json()

    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            if path.startswith("/v1/"):
                assert {"401", "422", "503"} <= set(operation["responses"]), (method, path)
                assert operation["security"], (method, path)
                assert operation.get("description") or operation.get("summary"), (method, path)
    assert "Problem" in described["components"]["schemas"]
    assert "HTTPValidationError" not in described["components"]["schemas"]
