"""Who may ask."""

from __future__ import annotations

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from starlette.testclient import TestClient

from premem_service.app import create_app
from premem_service.http import auth
from premem_service.storage.db import DatabaseError
from premem_service.storage.tables import keys
from tests.service.serving import on_sqlite

KEY = "pmk_0badcafe_" + "5" * 32


@pytest.fixture
def asked(settings):
    """Statuses of a protected route by the Authorization header, with PREMEM_API_KEY set."""
    app = create_app(settings.model_copy(update={"api_key": SecretStr(KEY)}))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield lambda header: client.get("/v1/jobs", headers={"Authorization": header} if header else {})


@on_sqlite
@pytest.mark.parametrize(
    "header",
    [None, "Bearer", "Bearer ", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer pmk_0badcafe_wrong", f"bearer  {KEY[:-1]}6"],
)
def test_without_the_key_nothing_is_told(asked, header):
    answer = asked(header)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["type"] == "/problems/unauthorized"
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_the_key_opens(asked):
    assert asked(f"Bearer {KEY}").status_code == 200


def test_on_loopback_nobody_is_asked_until_there_is_a_key(client, app):
    before = client.get("/v1/jobs").status_code
    with app.state.database.begin() as connection:
        token = auth.add_key(connection, name="ours")
    without = client.get("/v1/jobs").status_code
    with_it = client.get("/v1/jobs", headers={"Authorization": f"Bearer {token}"}).status_code

    assert (before, without, with_it) == (200, 401, 200)


def test_a_revoked_key_counts_no_more(client, app):
    with app.state.database.begin() as connection:
        ours, theirs = (auth.add_key(connection, name=name) for name in ("ours", "theirs"))
        auth.revoke_key(connection, theirs.split("_")[1])

    assert client.get("/v1/jobs", headers={"Authorization": f"Bearer {ours}"}).status_code == 200
    assert client.get("/v1/jobs", headers={"Authorization": f"Bearer {theirs}"}).status_code == 401


def test_only_the_hash_of_a_key_is_kept(client, app):
    with app.state.database.begin() as connection:
        token = auth.add_key(connection, name="ours")
        row = connection.execute(select(keys)).mappings().one()

    assert token.split("_")[2] not in str(dict(row))
    assert len(row["sha256"]) == 64


@on_sqlite
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json"])
def test_operation_is_open(client, app, path):
    with app.state.database.begin() as connection:
        auth.add_key(connection, name="ours")

    assert client.get(path).status_code == 200


@on_sqlite
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil"])
def test_another_sites_name_is_refused(client, host):
    answer = client.get("/v1/jobs", headers={"Host": host})

    assert answer.status_code == 400
    assert answer.json()["type"] == "/problems/host"


@on_sqlite
@pytest.mark.parametrize("host", ["localhost", "localhost:8321", "127.0.0.1:1", "[::1]:8321", "LOCALHOST"])
def test_loopback_has_these_names(client, host):
    assert client.get("/v1/jobs", headers={"Host": host}).status_code == 200


@on_sqlite
def test_to_the_world_the_service_does_not_speak_without_a_key(settings):
    app = create_app(settings.model_copy(update={"host": "0.0.0.0"}))  # noqa: S104

    with pytest.raises(DatabaseError, match="set PREMEM_API_KEY"), TestClient(app):
        pass


def test_to_the_world_it_speaks_with_a_key_of_the_table(settings, database):
    with database.begin() as connection:
        token = auth.add_key(connection, name="ours")
    app = create_app(settings.model_copy(update={"host": "0.0.0.0"}))  # noqa: S104

    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.get("/v1/jobs").status_code == 401
        assert client.get("/v1/jobs", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_keys_have_their_own_idempotency_keys(client, app, dataset):
    with app.state.database.begin() as connection:
        tokens = [auth.add_key(connection, name=name) for name in ("ours", "theirs")]
    body = {"dataset": dataset, "checkpoints": [{"path": "/runs/1"}]}

    answers = [
        client.post("/v1/jobs", json=body, headers={"Authorization": f"Bearer {token}", "Idempotency-Key": "1"})
        for token in tokens
    ]

    assert len({answer.json()["id"] for answer in answers}) == 2
