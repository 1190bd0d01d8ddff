"""Passes that share one run of an engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from premem.errors import EngineError, Interrupted
from premem.wire.jobs import Sampling
from premem_worker.engines.feed import Feed, MergedFeed
from premem_worker.engines.requests import Sampled, SampleRequest, Scored
from premem_worker.passes.stream import Stream
from tests.fakes import FakeEngine
from tests.worker.engines.resting import Stepping

SAMPLING = Sampling(samples=2, max_tokens=64)


def asked(*rows: int, seeds: tuple[int, ...] = (1, 2), open_: bool = False) -> Feed:
    feed = Feed(SampleRequest(row, tuple(f"{row} + 1?".encode()), seeds) for row in rows)
    if not open_:
        feed.close()
    return feed


def answers(stream: Stream, feed: Feed) -> Iterator[Scored | Sampled]:
    return stream.run(feed, sampling=SAMPLING, stopped=lambda: False)


def alone(feed: Feed) -> list[Scored | Sampled]:
    return list(Stream(FakeEngine()).run(feed, sampling=SAMPLING, stopped=lambda: False))


def test_what_is_begun_beside_a_pass_is_answered_in_the_same_run_and_given_to_its_own():
    engine = Stepping()
    stream = Stream(engine)
    first, second = asked(0, 1), asked(2, 3)

    running = answers(stream, first)
    got = [next(running)]
    assert stream.takes(range(2, 4), SAMPLING)
    stream.begin(second)
    got += running

    assert got == alone(asked(0, 1))
    assert engine.ended == 0
    assert list(answers(stream, second)) == alone(asked(2, 3))
    assert (engine.runs, engine.ended) == (1, 1)


def test_answers_to_the_next_pass_that_come_early_wait_for_it():
    class Backwards(Stepping):
        def run(self, requests: object, **how: object) -> Iterator[Scored | Sampled]:  # type: ignore[override]
            assert isinstance(requests, Feed)
            first = requests.take()
            yield from FakeEngine.run(self, first[:1], sampling=SAMPLING, stopped=lambda: False)
            yield from FakeEngine.run(self, requests.take(), sampling=SAMPLING, stopped=lambda: False)
            yield from FakeEngine.run(self, first[1:], sampling=SAMPLING, stopped=lambda: False)

    stream = Stream(Backwards())
    first, second = asked(0, 1), asked(2, 3)
    running = answers(stream, first)
    got = [next(running)]
    stream.begin(second)

    assert [*got, *running] == alone(asked(0, 1))
    assert list(answers(stream, second)) == alone(asked(2, 3))


def test_what_grades_lead_to_is_answered_too():
    stream = Stream(FakeEngine())
    feed = asked(0, open_=True)
    running = answers(stream, feed)
    got = [next(running), next(running)]

    def grade() -> None:
        feed.add([SampleRequest(0, tuple(b"0 + 1?"), (3,), first=2)])
        feed.close()

    threading.Timer(0.05, grade).start()
    assert [outcome.sample for outcome in [*got, *running] if isinstance(outcome, Sampled)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("rows", "sampling"),
    [
        (range(1, 3), SAMPLING),
        (range(2, 4), SAMPLING.model_copy(update={"temperature": 0.1})),
        (range(2, 4), SAMPLING.model_copy(update={"stop": ["."]})),
    ],
    ids=["the same rows", "another temperature", "another stop string"],
)
def test_what_cannot_be_told_apart_or_is_drawn_otherwise_does_not_begin_beside(rows: range, sampling: Sampling):
    stream = Stream(FakeEngine())
    next(answers(stream, asked(0, 1)))

    assert not stream.takes(rows, sampling)
    assert not stream.takes(range(2, 4), SAMPLING)  # by now the pass before was closed, with its answers


def test_seeds_and_the_number_of_samples_may_differ():
    stream = Stream(FakeEngine())
    running = answers(stream, asked(0, 1))
    next(running)

    assert stream.takes(range(2, 4), SAMPLING.model_copy(update={"seed": 7, "samples": 9}))


def test_an_engine_that_works_batch_by_batch_takes_nothing_beside():
    engine = FakeEngine()
    engine.continuous = False
    stream = Stream(engine)
    running = answers(stream, asked(0, 1))
    next(running)

    assert not stream.takes(range(2, 4), SAMPLING)


def test_a_pass_that_ends_early_ends_the_run_and_the_next_begins_anew():
    engine = Stepping()
    stream = Stream(engine)
    second = asked(2, 3)
    running = answers(stream, asked(0, 1))
    next(running)
    stream.begin(second)

    running.close()  # type: ignore[attr-defined]

    assert engine.ended == 1
    assert list(answers(stream, asked(2, 3))) == alone(asked(2, 3))


def test_an_engine_that_leaves_the_first_pass_unanswered_ends_it():
    class Leaving(FakeEngine):
        def run(self, requests: object, **how: object) -> Iterator[Scored | Sampled]:  # type: ignore[override]
            yield next(super().run(requests, **how))  # type: ignore[arg-type]

    assert len(list(answers(Stream(Leaving()), asked(0, 1)))) == 1


def test_what_nobody_asked_for_is_given_to_the_pass_that_runs():
    class Twice(FakeEngine):
        def answer(self, request: SampleRequest, sample: int, sampling: Sampling) -> Sampled:
            return Sampled(9, sample, "", 1, True)

    assert {outcome.row for outcome in answers(Stream(Twice()), asked(0))} == {9}


def test_an_interruption_of_the_one_pass_ends_the_run():
    engine = Stepping()
    stream = Stream(engine)
    stop = threading.Event()
    running = stream.run(asked(0, 1), sampling=SAMPLING, stopped=stop.is_set)
    next(running)
    stream.begin(asked(2, 3))
    stop.set()

    with pytest.raises(Interrupted):
        list(running)
    assert engine.ended == 1


def test_an_error_of_the_engine_is_raised_to_the_pass_that_runs():
    class Broken(Stepping):
        def answer(self, request: SampleRequest, sample: int, sampling: Sampling) -> Sampled:
            if request.row == 1:
                raise EngineError("it broke")
            return super().answer(request, sample, sampling)

    engine = Broken()
    with pytest.raises(EngineError, match="it broke"):
        list(answers(Stream(engine), asked(0, 1)))
    assert engine.ended == 1


def test_a_pass_ends_while_the_next_one_waits_for_grades_that_only_come_in_its_turn():
    engine = Stepping()
    stream = Stream(engine)
    first, second = asked(0, open_=True), asked(2, open_=True)
    running = answers(stream, first)
    got = [next(running)]
    stream.begin(second)
    threading.Timer(0.2, first.close).start()  # the last grade says that no more is needed

    assert len([*got, *running]) == 2
    turn = answers(stream, second)
    assert [next(turn), next(turn)] == alone(asked(2))
    second.add([SampleRequest(2, tuple(b"2 + 1?"), (3,), first=2)])
    second.close()
    assert [outcome.sample for outcome in turn if isinstance(outcome, Sampled)] == [2]


def test_a_joint_feed_is_closed_as_the_one_that_leads():
    merged = MergedFeed()
    first, second = asked(0, open_=True), asked(1, open_=True)
    first.pour(merged)
    first.lead()
    second.pour(merged)
    assert not merged.closed

    first.close()
    assert merged.closed
    assert not merged.ended  # something waits to be taken
    assert [request.row for request in merged.take()] == [0, 1]
    assert merged.ended
    second.lead()
    assert not merged.ended
    second.close()
    assert merged.ended
