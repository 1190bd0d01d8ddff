"""Health, metrics, limits, garbage, problems, and the process itself."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from premem_service import garbage, logs
from premem_service.__main__ import main
from premem_service.settings import Settings
from tests.end_to_end.processes import Service
from tests.service.serving import on_sqlite
from tests.service.working import always_right, ended, must_lease, put, result, work_off


@pytest.fixture(autouse=True)
def _quiet_again() -> Iterator[None]:
    """`main` lets the whole process log."""
    yield
    logs.configure(level=logging.ERROR)


def test_a_process_that_answers_is_healthy_and_ready(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok"}


@on_sqlite
def test_a_service_that_lost_its_store_is_not_ready(client, app, tmp_path):
    app.state.store.root.rename(tmp_path / "elsewhere")

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert "is gone" in answer.json()["detail"]
    assert client.get("/healthz").status_code == 200


def test_a_service_over_other_tables_is_not_ready(client, app):
    with app.state.database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'later'"))

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert "another revision" in answer.json()["detail"]


def test_metrics_count_what_was_done(client, post_job):
    job = post_job()
    work_off(client)
    ended(client, job)

    lines = client.get("/metrics").text.splitlines()

    assert "premem_tasks_leased_total 6.0" in lines
    assert "premem_tasks_completed_total 6.0" in lines
    assert 'premem_jobs{state="completed"} 1.0' in lines
    assert 'premem_tasks{state="completed"} 6.0' in lines
    assert "premem_tokens 264.0" in lines
    assert any(
        line.startswith('premem_request_seconds_count{method="PUT",route="/v1/tasks/{task}/result",status="200"} 6.0')
        for line in lines
    )


@on_sqlite
def test_metrics_have_no_label_per_path(client):
    for number in range(3):
        client.get(f"/v1/jobs/job_{number}")
        client.get(f"/nothing/{number}")

    labels = {
        line.split("route=")[1].split(",")[0] for line in client.get("/metrics").text.splitlines() if "route=" in line
    }

    assert labels == {'"/v1/jobs/{job}"', '"unknown"'}


@on_sqlite
def test_a_body_that_is_too_long_is_refused(client, app):
    declared = client.post("/v1/jobs", content=b"[" * (app.state.settings.max_body_bytes + 1))
    streamed = client.post("/v1/jobs", content=iter([b"[" * 2**20] * 9))

    assert (declared.status_code, streamed.status_code) == (413, 413)
    assert declared.json()["type"] == streamed.json()["type"] == "/problems/too-large"


@on_sqlite
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("PUT", "/v1/jobs", 405), ("GET", "/v1/jobs?limit=0", 422), ("POST", "/v1/jobs", 422)],
)
def test_every_error_is_a_problem(client, method, path, status):
    answer = client.request(method, path)

    problem = answer.json()
    assert answer.status_code == problem["status"] == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["type"].startswith("/problems/")
    assert problem["instance"] == path.partition("?")[0]
    assert problem["title"]
    assert problem["detail"]


@on_sqlite
def test_what_nobody_expected_is_told_without_its_insides(app):
    def broken() -> None:
        raise RuntimeError("secret insides")

    app.add_api_route("/broken", broken)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        answer = client.get("/broken")

    assert answer.status_code == 500
    assert answer.json()["type"] == "/problems/internal"
    assert "secret" not in answer.text


@on_sqlite
def test_every_answer_has_a_request_id_and_takes_a_sound_one(client):
    given = client.get("/healthz", headers={"X-Request-ID": "mine-1"}).headers["X-Request-ID"]
    unsound = client.get("/healthz", headers={"X-Request-ID": "a b{}"}).headers["X-Request-ID"]

    assert given == "mine-1"
    assert len(unsound) == 32


def test_artifacts_that_no_row_names_are_collected_when_they_are_old(client, app, post_job):
    job = post_job()
    task = must_lease(client)
    put(client, task, result(task, always_right))
    work_off(client)
    ended(client, job)
    store = app.state.store
    before = {artifact.name for artifact in store.list()}
    for name in ("results/task_x/1-a.parquet", "scores/job_x/b.parquet", "datasets/c/0.parquet"):
        store.put(name, b"garbage")
    young = garbage.collect(app.state.database, store, app.state.settings)
    for path in store.root.rglob("*.parquet"):
        os.utime(path, (0, 0))

    old = garbage.collect(app.state.database, store, app.state.settings)

    assert (young, old) == (0, 3)
    assert {artifact.name for artifact in store.list()} == before
    assert client.get(f"/v1/jobs/{job}/examples/3").status_code == 200


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--host", "0.0.0.0"], "set PREMEM_API_KEY"),  # noqa: S104
        (["--port", "many"], "port: Input should be a valid integer"),
        (["--database-url", "mysql://x/y"], "SQLite and PostgreSQL"),
        (["--database-url", "nonsense"], "is no database URL"),
        (["--store-url", "ftp://somewhere"], "the store failed"),
    ],
)
def test_a_service_that_cannot_start_says_why_in_a_line(tmp_path, capsys, flags, message):
    status = main(["--data-dir", str(tmp_path), *flags])

    told = capsys.readouterr().err
    assert status == 2
    assert message in told
    assert len(told.splitlines()) == 1


def test_a_port_that_is_taken_is_named(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status = main(["--data-dir", str(tmp_path), "--port", str(port)])

    assert status == 2
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in capsys.readouterr().err


def test_a_process_ends_its_streams_and_itself_when_told(tmp_path):
    service = Service(tmp_path, database_url=f"sqlite:///{tmp_path / 'premem.db'}")
    try:
        lines = b"".join(b'{"question": "%d + 0?", "answer": "#### %d"}\n' % (n, n) for n in range(3))
        with httpx.Client(base_url=service.url) as client:
            dataset = client.post("/v1/datasets", content=lines).json()["id"]
            job = client.post("/v1/jobs", json={"dataset": dataset, "checkpoints": [{"path": "/r/1"}]}).json()["id"]
            with client.stream("GET", f"/v1/jobs/{job}/events") as stream:
                told = stream.iter_lines()
                first = next(told)
                started = time.monotonic()
                service.signal(signal.SIGTERM)
                rest = list(told)

        assert service.ended(seconds=15) == 0
        assert first == "event: job"
        assert time.monotonic() - started < 15
        assert [line for line in rest if line.startswith("event:")] == []
    finally:
        service.stop()


def test_keys_are_made_listed_and_revoked_on_the_command_line(tmp_path, capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["--data-dir", str(tmp_path), "keys", *arguments])
        told = capsys.readouterr()
        return status, told.out, told.err

    _, token, _ = run("add", "ours")
    id_, secret = token.strip().split("_")[1:]
    _, listed, _ = run("list")
    revoked, _, _ = run("revoke", id_)
    again, _, why = run("revoke", id_)

    assert token.startswith("pmk_")
    assert id_ in listed
    assert "ours" in listed
    assert secret not in listed
    assert (revoked, again) == (0, 2)
    assert f"no key '{id_}'" in why


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("PREMEM_LEASE_SECONDS", "3")
    monkeypatch.setenv("PREMEM_ALLOWED_HOSTS", '["localhost", "service"]')

    settings = Settings()

    assert settings.lease_seconds == 3
    assert settings.hosts == ["localhost", "service"]
