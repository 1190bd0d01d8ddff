from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from premem_worker.tasks.connection import Connection
from premem_worker.tasks.heartbeat import Heartbeat
from tests.fakes import FakeService, make_task, problem


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService() as fake:
        yield fake


@pytest.fixture
def connection(service: FakeService) -> Iterator[Connection]:
    made = Connection(service.url)
    yield made
    made.close()


def heartbeat(connection: Connection, *, lease_seconds: float = 0.6) -> Heartbeat:
    return Heartbeat(connection, make_task("a", lease_seconds=lease_seconds), leased_at=time.monotonic())


def comes_true(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return bool(condition())


def test_a_lease_is_kept_for_longer_than_it_was_given(service: FakeService, connection: Connection):
    with heartbeat(connection) as lease:
        assert service.wait_for(lambda: service.beats["a"] >= 5)

        assert not lease.stopped()


def test_no_beat_comes_before_a_third_of_the_lease_or_after_its_end(service: FakeService, connection: Connection):
    with heartbeat(connection, lease_seconds=0.3):
        assert service.beats["a"] == 0
        assert service.wait_for(lambda: service.beats["a"])
    with heartbeat(connection, lease_seconds=60.0):
        pass
    beats = service.beats["a"]
    time.sleep(0.3)

    assert service.beats["a"] == beats


def test_a_stale_attempt_stops_the_work(service: FakeService, connection: Connection):
    service.stale.add("a")

    with heartbeat(connection) as lease:
        assert comes_true(lease.stopped)
        assert lease.lost == "stale"


def test_a_task_that_is_gone_stops_the_work(service: FakeService, connection: Connection):
    service.answers_with = problem(404, "/problems/not-found", "there is no task a")

    with heartbeat(connection) as lease:
        assert comes_true(lease.stopped)
        assert lease.lost == "stale"


def test_a_cancelled_job_stops_the_work(service: FakeService, connection: Connection):
    service.cancelled.add("a")

    with heartbeat(connection) as lease:
        assert comes_true(lease.stopped)
        assert lease.lost == "cancelled"


def test_a_lease_of_which_the_service_hears_nothing_is_over_when_its_time_is(service: FakeService):
    service.stop()
    connection = Connection(service.url)
    began = time.monotonic()

    with heartbeat(connection, lease_seconds=0.9) as lease:
        assert comes_true(lease.stopped)
        assert lease.lost == "unheard"
    assert time.monotonic() - began >= 0.9


def test_a_lease_outlives_a_service_that_is_away_for_less(service: FakeService, connection: Connection):
    with heartbeat(connection, lease_seconds=3.0) as lease:
        service.answers_with = problem(503, "about:blank", "restarting")
        assert service.wait_for(lambda: service.requests >= 1)
        service.answers_with = None
        assert service.wait_for(lambda: service.beats["a"] >= 3)

        assert not lease.stopped()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_work_does_not_outlive_the_thread_that_keeps_its_lease(
    service: FakeService, connection: Connection, monkeypatch: pytest.MonkeyPatch
):
    def fails(*_: object, **__: object) -> None:
        raise OSError("no space left for the log")

    monkeypatch.setattr(connection, "heartbeat", fails)

    with heartbeat(connection, lease_seconds=0.3) as lease:
        assert comes_true(lease.stopped)
        assert lease.lost == "unheard"
