"""Engines that stop answering."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from premem.errors import EngineError, Interrupted
from premem.wire.tasks import ENGINE_HANGS
from premem_worker.lifetime.watchdog import Watch, watched
from tests.fakes import FakeService, examples, make_task
from tests.worker.worker_processes import gone_within, start_stuck_worker


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService(rows=examples(12)) as fake:
        yield fake


def test_an_engine_whose_process_is_frozen_is_killed_and_another_one_goes_on(service: FakeService):
    service.tasks.append(make_task("a"))
    worker, core = start_stuck_worker(service, "--hangs", "outside", "--engine-seconds", "1.5")
    os.kill(core, signal.SIGSTOP)
    service.tasks.append(make_task("b"))

    assert service.wait_for(lambda: "b" in service.results)
    assert gone_within(core, 5)
    ((task, report),) = service.failures
    assert (task, report.permanent) == ("a", False)
    assert "the engine gave no sign of life for 1.5 seconds in the middle of a pass" in report.error
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0


@pytest.mark.parametrize(
    ("hangs", "seconds", "told"),
    [
        ("run", "--engine-seconds", "in the middle of a pass"),
        ("load", "--load-seconds", "while a checkpoint was loaded"),
    ],
)
def test_an_engine_that_hangs_in_the_workers_own_process_takes_it_along_and_the_task_goes_back(
    service: FakeService, hangs: str, seconds: str, told: str
):
    service.tasks.append(make_task("a"))
    worker, child = start_stuck_worker(service, "--hangs", hangs, seconds, "1")

    assert worker.wait(30) == ENGINE_HANGS == 75
    assert gone_within(child, 5)
    ((task, report),) = service.failures
    assert (task, report.permanent) == ("a", False)
    assert f"no sign of life for 1 seconds {told}" in report.error
    assert "--load-seconds" in report.error


def test_an_engine_that_is_slow_but_shows_steps_is_left_alone():
    killed = threading.Event()

    with watched("here", seconds=0.4, kill=killed.set, last_resort=pytest.fail) as watch:
        for _ in range(12):
            time.sleep(0.1)
            watch.alive()

    assert not killed.is_set()


def test_time_in_which_nothing_is_asked_of_an_engine_does_not_count():
    watch = Watch("here", seconds=10.0)

    assert not watch.pass_time(6.0)
    watch.rest()
    assert not watch.pass_time(60.0)
    watch.alive()
    assert not watch.pass_time(6.0)
    assert watch.pass_time(6.0)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (BrokenPipeError(), EngineError(r"no sign of life for 0.2 seconds here")),
        (Interrupted("cancelled"), Interrupted("cancelled")),
    ],
)
def test_what_a_killed_engine_raises_is_told_as_its_silence_unless_the_pass_was_stopped(
    raised: Exception, told: Exception
):
    killed = threading.Event()

    def fall_silent() -> None:
        with watched("here", seconds=0.2, kill=killed.set, last_resort=pytest.fail):
            assert killed.wait(10)
            raise raised

    with pytest.raises(type(told), match=str(told)):
        fall_silent()


def test_a_worker_that_was_frozen_does_not_blame_its_engine(service: FakeService):
    service.tasks.append(make_task("a"))
    worker, _ = start_stuck_worker(service, "--hangs", "run", "--stuck-seconds", "1", "--engine-seconds", "3")
    worker.send_signal(signal.SIGSTOP)
    time.sleep(4)
    worker.send_signal(signal.SIGCONT)

    assert service.wait_for(lambda: "a" in service.results)
    assert not service.failures
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
