from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from fastapi import Response

from premem.errors import Interrupted, NotFound, ServiceError, StaleAttempt, Unreachable
from premem.payloads.results import RowResult, encode
from premem.wire.tasks import LeasedTask, LeaseRequest
from premem_worker.tasks.connection import SERVER_ERRORS_BORNE, Connection, NothingToDo
from tests.fakes import FakeService, examples, make_task, problem

ASK = LeaseRequest(worker="w", engine="fake")
CONTENT = encode([RowResult(row=0, skipped="too long")], produced_by={})


def never() -> bool:
    return False


def after_requests(service: FakeService, count: int) -> Callable[[], bool]:
    return lambda: service.requests >= count


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService(rows=examples(3)) as fake:
        yield fake


@pytest.fixture
def connection(service: FakeService) -> Iterator[Connection]:
    made = Connection(service.url)
    yield made
    made.close()


def test_a_task_comes_with_everything_that_it_says(service: FakeService, connection: Connection):
    task = make_task(kind="test", tokenizer="abc")
    service.tasks.append(task)

    leased = connection.lease(ASK, stopped=never)

    assert isinstance(leased, LeasedTask)
    assert leased == task


def test_where_nothing_is_to_be_done_the_service_says_when_to_ask_again(connection: Connection):
    assert connection.lease(ASK, stopped=never) == NothingToDo(ask_again_seconds=0.05)


def test_rows_come_as_examples_in_order(service: FakeService, connection: Connection):
    assert connection.rows("data", start=1, stop=3, stopped=never) == examples(3)[1:]


def test_a_data_set_that_is_not_there_is_not_found(connection: Connection):
    with pytest.raises(NotFound, match="there is no data set other"):
        connection.rows("other", start=0, stop=3, stopped=never)


def test_a_stale_result_is_told_apart_from_other_problems(service: FakeService, connection: Connection):
    service.stale.add("a")

    with pytest.raises(StaleAttempt):
        connection.result("a", 1, CONTENT, stopped=never)


def test_a_result_that_the_service_finds_malformed_is_not_sent_again(service: FakeService, connection: Connection):
    service.answers_with = problem(422, "/problems/validation", "the result must hold each row once")

    with pytest.raises(ServiceError, match="must hold each row once") as refused:
        connection.result("a", 1, CONTENT, stopped=never)
    assert refused.value.status == 422
    assert service.requests == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504, 507])
def test_a_service_that_is_busy_or_away_is_asked_again_when_it_says(
    service: FakeService, connection: Connection, status: int
):
    service.answers_with = Response(status_code=status, headers={"Retry-After": "0.01"})

    with pytest.raises(Interrupted):
        connection.result("a", 1, CONTENT, stopped=after_requests(service, 3))
    assert service.requests == 3


def test_retry_after_is_waited_for(service: FakeService, connection: Connection):
    service.answers_with = Response(status_code=429, headers={"Retry-After": "0.8"})
    began = time.monotonic()

    with pytest.raises(Interrupted):
        connection.lease(ASK, stopped=after_requests(service, 2))
    assert time.monotonic() - began >= 0.8 * 0.75


def test_a_fault_of_the_service_is_borne_a_few_times_and_then_told(service: FakeService, connection: Connection):
    service.answers_with = Response(status_code=500, headers={"Retry-After": "0"})

    with pytest.raises(ServiceError, match="answered 500"):
        connection.result("a", 1, CONTENT, stopped=never)
    assert service.requests == SERVER_ERRORS_BORNE


def test_a_page_of_something_else_is_no_task(service: FakeService, connection: Connection):
    service.answers_with = Response("<html>welcome</html>", media_type="text/html")

    with pytest.raises(ServiceError, match="answered something else than a LeasedTask"):
        connection.lease(ASK, stopped=never)


def test_nobody_is_asked_for_longer_than_there_is_somebody_to_ask_for(service: FakeService):
    service.stop()
    away = Connection(service.url)

    with pytest.raises(Interrupted):
        away.rows("data", start=0, stop=1, stopped=lambda: True)
    with pytest.raises(Unreachable):
        away.heartbeat("a", 1, answer_seconds=1.0)
