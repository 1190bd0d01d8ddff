"""Replies of a newer service, and versions compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

import pytest
from pydantic import ValidationError

from premem import wire
from premem.client.client import Client
from premem.wire.bodies import Reply
from premem.wire.compatibility import VERSION, is_newer, read_reply, version_of
from premem.wire.jobs import Sampling
from premem.wire.tasks import LeasedTask
from premem_worker.tasks.connection import Connection
from tests.fakes import make_task


def replies() -> Iterator[type[Reply]]:
    for module in iter_modules(wire.__path__):
        import_module(f"{wire.__name__}.{module.name}")
    waiting = [Reply]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        yield kind


def test_no_reply_refuses_a_field_that_a_newer_service_added():
    assert {kind.__name__ for kind in replies() if kind.model_config["extra"] == "forbid"} == set()


def test_what_a_newer_service_added_is_ignored_at_any_depth():
    task = make_task("task-1", sampling=Sampling(samples=3))
    newer = json.loads(task.model_dump_json())
    newer["priority"] = 1
    newer["sampling"]["min_p"] = 0.1
    newer["plan"] = {"rows": [1], "floor": [0], "ceiling": [2], "why": "settled"}

    read = read_reply(LeasedTask, json.dumps(newer).encode())

    assert (read.id, read.sampling.samples) == ("task-1", 3)
    assert read.plan is not None
    assert read.plan.rows == [1]


def test_a_reply_that_lacks_something_is_none():
    newer = {"id": "task-1", "sampling": {"min_p": 0.1}}

    with pytest.raises(ValidationError, match="lease_seconds"):
        read_reply(LeasedTask, json.dumps(newer).encode())


@pytest.mark.parametrize(
    ("user_agent", "version"),
    [
        ("premem-client/0.2.0", "0.2.0"),
        ("premem-worker/1.10", "1.10"),
        ("premem-worker/0.3.0.dev3", "0.3.0"),
        ("premem-client", None),
        ("Mozilla/5.0 premem-client/0.2.0", None),
        ("", None),
    ],
)
def test_client_and_worker_are_told_by_their_user_agent(user_agent: str, version: str | None):
    assert version_of(user_agent) == version


@pytest.mark.parametrize(
    ("one", "than", "newer"),
    [
        ("0.10.0", "0.9.3", True),
        ("0.9.3", "0.10.0", False),
        ("0.2.0", "0.2", False),
        ("0.2.1", "0.2", True),
        ("1.0", "0.99", True),
    ],
)
def test_versions_are_compared_by_their_numbers(one: str, than: str, *, newer: bool):
    assert is_newer(one, than=than) is newer


def test_client_and_worker_say_their_version():
    client, worker = Client("http://127.0.0.1:1"), Connection("http://127.0.0.1:1")

    sent = [client._http.headers["User-Agent"], worker._client.headers["User-Agent"]]

    assert sent == [f"premem-client/{VERSION}", f"premem-worker/{VERSION}"]
    client.close()
    worker.close()
