"""What is done of a task outlives the worker that did it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from fastapi import Response

from premem.payloads.results import check_partial, decode
from premem.wire.jobs import Sampling
from premem_worker.engines.requests import Sampled, SampleRequest
from tests.fakes import FakeEngine, FakeService, examples, make_task
from tests.worker.workplace import Workplace

SAMPLING = Sampling(samples=4, max_tokens=64)


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService(rows=examples(6)) as fake:
        yield fake


class Pausing(FakeEngine):
    """Stands still before one of its answers until it is let go."""

    def __init__(self, *, after: int) -> None:
        super().__init__()
        self.after = after
        self.answered: list[tuple[int, int]] = []
        self.paused = threading.Event()
        self.go = threading.Event()

    def answer(self, request: SampleRequest, sample: int, sampling: Sampling) -> Sampled:
        if len(self.answered) == self.after:
            self.paused.set()
            self.go.wait(20)
        self.answered.append((request.row, request.first + sample))
        return super().answer(request, sample, sampling)


def test_a_worker_that_ends_hands_in_what_it_has_before_it_gives_the_task_back(service: FakeService):
    service.tasks.append(make_task(stop=6, sampling=SAMPLING))
    engine = Pausing(after=10)
    workplace = Workplace(service, engine)
    workplace.thread.start()
    assert engine.paused.wait(20)
    workplace.shutdown.request()
    engine.go.set()
    workplace.end()

    (kept,) = service.partials["task-1"]

    check_partial(kept, kind="train", start=0, stop=6, samples=4)
    assert sum(len(row.answers) for row in decode(kept)[0]) in (10, 11)
    assert service.released == [("task-1", 1)]


def test_the_next_worker_draws_only_the_rest_and_hands_in_the_same(service: FakeService):
    service.tasks.append(make_task("whole", stop=6, sampling=SAMPLING))
    Workplace(service).run()
    service.tasks.append(make_task(stop=6, sampling=SAMPLING))
    engine = Pausing(after=10)
    first = Workplace(service, engine)
    first.thread.start()
    assert engine.paused.wait(20)
    first.shutdown.request()
    engine.go.set()
    first.end()
    service.tasks.append(make_task(stop=6, attempt=2, sampling=SAMPLING, partial=True))
    second = Pausing(after=-1)

    Workplace(service, second).run()

    assert service.frame("task-1").equals(service.frame("whole"))
    assert 24 - len(second.answered) in (10, 11)


@pytest.mark.parametrize(
    ("then", "now", "goes_on"), [("w1", "w1", True), ("w1", "w2", False), ("", "w2", True), ("w1", "", True)]
)
def test_a_worker_goes_on_from_what_is_known_of_the_same_weights_only(
    service: FakeService, then: str, now: str, goes_on: bool
):
    service.tasks.append(make_task("few", sampling=Sampling(samples=2, max_tokens=8)))
    first = Workplace(service)
    first.weights = then
    first.run()
    service.partials["task-1"] = [service.results["few"][-1]]
    service.tasks.append(make_task(sampling=SAMPLING, partial=True))
    second = Workplace(service)
    second.weights = now

    second.run()

    assert ("task-1" in service.results) == goes_on
    told = [(report.checkpoint, "'checkpoint-5' was written anew" in report.error) for _, report in service.failures]
    assert told == ([] if goes_on else [(True, True)])


def test_a_service_that_takes_no_partial_results_does_not_hold_the_pass_up(service: FakeService):
    service.tasks.append(make_task(stop=6, sampling=SAMPLING))
    service.refuses_partials = Response(status_code=404)

    Workplace(service, keep_seconds=0.05).run()

    assert service.frame("task-1").height == 6
