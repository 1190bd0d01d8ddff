"""Senders of other versions: what 0.2 sends is taken by every later service, and what a newer one sends is refused by rule."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient

from premem.records import Observation
from premem.wire.compatibility import VERSION
from premem_service.app import create_app
from premem_service.settings import Settings
from tests.service.recording import imported, made_run
from tests.service.serving import upload
from tests.service.working import ended, must_lease, work_off

REQUESTS = sorted((Path(__file__).parent / "wire_0_2").glob("*.json"))
"""As 0.2 sends them, with every field that it has. Never edited: later versions must take them."""
KINDS = {
    "Boolean": pl.Boolean(),
    "Float64": pl.Float64(),
    "Int64": pl.Int64(),
    "String": pl.String(),
    "List(Boolean)": pl.List(pl.Boolean()),
    "List(Float64)": pl.List(pl.Float64()),
    "List(Int64)": pl.List(pl.Int64()),
    "List(String)": pl.List(pl.String()),
}
NEWER = {"User-Agent": "premem-client/99.1.0"}
OLDER = {"User-Agent": "premem-worker/0.1.0"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    app = create_app(Settings(data_dir=tmp_path_factory.mktemp("compatibility"), round_seconds=0.05))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture(scope="module")
def there(service: TestClient) -> dict[str, Any]:
    """What the requests name: data sets, a completed job, an open one, and a calibration with the jobs it was made from."""
    dataset, pool = upload(service, rows=12), upload(service, rows=12, offset=50)
    job = post(service, dataset, sampling={"samples": 2}, memorized_below=1.2)
    work_off(service, lambda _, row: Observation(correct=row % 3, sampled=2, perplexity=2.0))
    assert ended(service, job)["state"] == "completed"
    recorded = [imported(service, made_run(seed, examples=12), dataset) for seed in (1, 2, 3)]
    assert service.post("/v1/calibrations", json={"name": "kept", "jobs": recorded}).status_code == 201
    return {
        "dataset": dataset,
        "test_dataset": pool,
        "job": job,
        "open_job": post(service, dataset, open=True),
        "calibration": "kept",
        "recorded_jobs": recorded,
    }


def post(client: TestClient, dataset: str, **changes: Any) -> str:
    body = {"dataset": dataset, "checkpoints": [{"path": "/runs/checkpoint-1"}], **changes}
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    job: str = answer.json()["id"]
    return job


def leased(client: TestClient) -> dict[str, Any]:
    """The only task of a new job over one row."""
    one = post(client, upload(client, rows=1, offset=90), trajectory="everything", sampling={"samples": 2})
    while (task := must_lease(client))["job"] != one:
        pass
    return {"task": task["id"], "attempt": task["attempt"]}


def filled(value: Any, names: dict[str, Any]) -> Any:
    """The value with what `{name}` stands for in place of it. A name alone may stand for something else than text."""
    if isinstance(value, dict):
        return {key: filled(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, names) for one in value]
    if not isinstance(value, str):
        return value
    if (alone := value.removeprefix("{").removesuffix("}")) in names and value == f"{{{alone}}}":
        return names[alone]
    for name, one in names.items():
        value = value.replace(f"{{{name}}}", str(one))
    return value


def content_of(request: dict[str, Any]) -> bytes | None:
    if "lines" in request:
        return "\n".join(map(json.dumps, request["lines"])).encode()
    if "parquet" not in request:
        return None
    file = request["parquet"]
    schema = {column: KINDS[kind] for column, kind in file["schema"].items()}
    metadata = {key: text if isinstance(text, str) else json.dumps(text) for key, text in file["metadata"].items()}
    out = io.BytesIO()
    pl.DataFrame([file["row"]], schema=schema).write_parquet(out, metadata=metadata)
    return out.getvalue()


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.stem)
def test_every_field_that_0_2_sends_is_taken(service, there, path):
    recorded = json.loads(path.read_text())
    names = there | (leased(service) if "{task}" in recorded["path"] else {})
    request = filled(recorded, names)

    answer = service.request(
        request["method"],
        request["path"],
        params=request.get("query"),
        json=request.get("body"),
        content=content_of(request),
        headers={"User-Agent": "premem-client/0.2.0"},
    )

    assert answer.is_success, answer.text


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"min_p": 0.1}, "min_p"),
        ({"sampling": {"min_p": 0.1}}, "sampling.min_p"),
        ({"checkpoints": [{"path": "/c", "step": 7}]}, "checkpoints.0.step"),
    ],
)
def test_a_newer_client_is_told_to_upgrade_the_service(service, there, body, field):
    answer = service.post("/v1/jobs", json={"dataset": there["dataset"], "open": True, **body}, headers=NEWER)

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert answer.json()["detail"] == (
        f"{field}: is a field that this service does not know, sent by premem 99.1.0: upgrade the service (this one is "
        f"version {VERSION}), or leave the field out"
    )


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"chekpoints": []}, "chekpoints: there is no such field; did you mean checkpoints?"),
        ({"sampling": {"sampels": 2}}, "sampling.sampels: there is no such field; did you mean samples?"),
        (
            {"perturbations": [{"name": "a", "answer_prefix": "b", "anser_prefix": "c"}]},
            "perturbations.0.anser_prefix: there is no such field; did you mean answer_prefix?",
        ),
        ({"colour": "blue"}, "colour: there is no such field; leave it out"),
    ],
)
@pytest.mark.parametrize("headers", [{"User-Agent": f"premem-client/{VERSION}"}, OLDER, {"User-Agent": "curl/8.5.0"}])
def test_a_field_that_nobody_knows_is_named_with_the_one_that_was_meant(service, there, body, told, headers):
    answer = service.post("/v1/jobs", json={"dataset": there["dataset"], "open": True, **body}, headers=headers)

    assert answer.status_code == 422
    assert answer.json()["detail"] == told


def test_a_query_parameter_that_the_service_does_not_know_is_refused_as_a_field_is(service, there):
    path = f"/v1/jobs/{there['job']}/examples"

    newer, mistyped = (
        service.get(path, params={name: 1}, headers=headers)
        for name, headers in (("by_family", NEWER), ("lmit", {"User-Agent": "Mozilla/5.0"}))
    )

    assert (newer.status_code, mistyped.status_code) == (422, 422)
    assert "by_family: is a query parameter that this service does not know" in newer.json()["detail"]
    assert mistyped.json()["detail"] == "lmit: there is no such query parameter; did you mean limit?"


def test_a_newer_worker_whose_fields_are_all_known_is_served(service):
    answer = service.post(
        "/v1/tasks/lease", json={"worker": "new"}, headers={"User-Agent": "premem-worker/99.1.0.dev3"}
    )

    assert answer.status_code in (200, 204)


def test_an_older_worker_that_sends_only_what_must_be_sent_is_understood(service):
    task = leased(service)

    heartbeat, failure, lease = (
        service.post(path, json=body, headers=OLDER)
        for path, body in (
            (f"/v1/tasks/{task['task']}/heartbeat", {"attempt": task["attempt"]}),
            (f"/v1/tasks/{task['task']}/failure", {"attempt": task["attempt"], "error": "out of memory"}),
            ("/v1/tasks/lease", {"worker": "old"}),
        )
    )

    assert (heartbeat.status_code, failure.status_code) == (200, 204)
    assert lease.status_code in (200, 204)
