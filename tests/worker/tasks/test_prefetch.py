"""The next task leased before the last one is done, and results handed in meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from premem.errors import EngineError
from premem.payloads.effort import read_effort
from premem.payloads.results import decode
from premem.records import Grade
from premem.wire.bodies import GraderChoice
from premem.wire.jobs import Checkpoint, Sampling, Template
from premem.wire.tasks import DrawPlan, LeasedTask
from premem_worker.checkpoints.chat import Chat
from premem_worker.engines.feed import Feed
from premem_worker.engines.requests import Sampled, SampleRequest, Scored, ScoreRequest
from premem_worker.passes.pace import Pace
from tests.checkpoints import CHAT, make_tokenizer
from tests.fakes import Comparing, FakeEngine, FakeService, examples, make_task
from tests.worker.engines.resting import Pausing
from tests.worker.workplace import Workplace


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService(rows=examples(12)) as fake:
        yield fake
        fake.takes_results.set()


CHATS = Chat(CHAT, frozenset())
LAST = 9
"""Three rows have a score and two answers each."""


def test_the_next_task_is_leased_and_kept_while_the_last_answers_are_drawn(service: FakeService):
    service.tasks += [make_task("a"), make_task("b", lease_seconds=0.3)]
    engine = Pausing(before=LAST)
    workplace = Workplace(service, engine)
    workplace.thread.start()

    assert engine.pausing.wait(10)
    assert service.wait_for(lambda: service.beats["b"] >= 2)
    assert not service.results
    assert service.leases[1].loaded_checkpoint == "/runs/checkpoint-5"
    assert [asked.device for asked in service.leases[:2]] == [None, "cpu"]  # the engine's, once it has loaded
    engine.go.set()
    workplace.thread.join(10)
    assert {task: len(sent) for task, sent in service.results.items()} == {"a": 1, "b": 1}
    assert not service.released


def test_a_task_that_others_could_begin_is_not_leased_while_much_is_left(service: FakeService):
    service.tasks += [make_task("a", stop=12), make_task("b")]
    engine = Pausing(before=5, seconds_each=0.1)  # 4 of 36 answers, in 0.4 s
    workplace = Workplace(service, engine)
    workplace.thread.start()

    assert engine.pausing.wait(10)
    time.sleep(0.5)
    assert len(service.leases) == 1
    engine.seconds_each = 0.0
    engine.go.set()
    workplace.thread.join(10)
    assert list(service.results) == ["a", "b"]


def test_no_more_than_one_task_is_leased_ahead(service: FakeService):
    service.tasks += [make_task(name) for name in ("a", "b", "c")]
    engine = Pausing(before=LAST)
    workplace = Workplace(service, engine)
    workplace.thread.start()

    assert service.wait_for(lambda: len(service.leases) == 2)
    time.sleep(0.3)
    assert len(service.tasks) == 1
    engine.go.set()
    workplace.thread.join(10)
    assert list(service.results) == ["a", "b", "c"]


def test_a_worker_that_ends_gives_back_the_task_in_its_pass_and_the_one_ahead(service: FakeService):
    service.tasks += [make_task("a"), make_task("b", attempt=3)]
    workplace = Workplace(service, Pausing(before=LAST))
    workplace.thread.start()
    assert service.wait_for(lambda: len(service.leases) == 2)
    workplace.end()

    assert sorted(service.released) == [("a", 1), ("b", 3)]
    assert not service.results
    assert not service.failures


def test_a_worker_whose_engine_failed_gives_back_the_task_ahead(service: FakeService):
    class Failing(Pausing):
        def answer(self, request: SampleRequest, sample: int, sampling: Sampling) -> Sampled:
            if (request.row, sample) == (2, 1) and not service.failures:
                assert service.wait_for(lambda: len(service.leases) == 2)
                raise EngineError("it broke")
            return super().answer(request, sample, sampling)

    service.tasks += [make_task("a"), make_task("b")]
    workplace = Workplace(service, Failing(before=0))

    workplace.run()

    assert [(task, report.error) for task, report in service.failures] == [("a", "it broke")]
    assert service.released == [("b", 1)]


def test_what_goes_wrong_ahead_is_told_of_that_task_alone(service: FakeService):
    service.tasks += [make_task("a"), make_task("b").model_copy(update={"dataset": "gone"}), make_task("c")]

    Workplace(service).run()

    ((task, report),) = service.failures
    assert (task, report.error, report.permanent) == ("b", "there is no data set gone", True)
    assert list(service.results) == ["a", "c"]


def test_a_pass_begins_while_the_result_before_is_handed_in(service: FakeService):
    service.takes_results.clear()
    service.tasks += [make_task("a", lease_seconds=0.3), make_task("b", lease_seconds=0.3)]
    engine = Pausing(before=0)
    workplace = Workplace(service, engine)
    workplace.thread.start()

    assert service.wait_for(lambda: service.beats["a"] >= 2 and service.beats["b"] >= 2)
    assert not service.results
    service.takes_results.set()
    workplace.thread.join(10)
    assert {task: len(sent) for task, sent in service.results.items()} == {"a": 1, "b": 1}


def test_no_more_than_two_results_wait_to_be_handed_in(service: FakeService):
    service.takes_results.clear()
    service.tasks += [make_task(name) for name in "abcdef"]
    workplace = Workplace(service)
    workplace.thread.start()

    time.sleep(1.0)
    assert len(service.leases) <= 4  # two on their way, one that is ready, one ahead
    assert not service.results
    service.takes_results.set()
    workplace.thread.join(10)
    assert {task: len(sent) for task, sent in service.results.items()} == dict.fromkeys("abcdef", 1)


def test_a_task_that_a_result_makes_is_asked_for_as_soon_as_the_result_is_answered(service: FakeService):
    service.retry_seconds = 60.0
    made = [make_task("drawn")]

    def plan(task: str) -> None:
        time.sleep(0.5)  # the worker has been told meanwhile that nothing waits
        service.tasks.extend(made)
        made.clear()

    service.after_result = plan
    service.tasks.append(make_task("scored"))
    workplace = Workplace(service, exit_when_idle=0.0)
    workplace.thread.start()

    assert service.wait_for(lambda: "drawn" in service.results, seconds=10)
    workplace.thread.join(10)
    assert not workplace.thread.is_alive()


def test_a_result_that_the_service_refuses_is_a_failure_of_its_task(service: FakeService):
    service.refused["a"] = "no such column"
    service.tasks += [make_task("a"), make_task("b")]
    workplace = Workplace(service, exit_when_idle=5)
    workplace.thread.start()

    assert service.wait_for(lambda: "b" in service.results)
    workplace.end()
    assert [(task, report.error) for task, report in service.failures] == [("a", "no such column")]
    assert workplace.engines_made == 1


def test_without_leasing_ahead_a_task_is_leased_when_the_result_before_was_taken(service: FakeService):
    order = []
    service.after_result = lambda task: order.append((task, len(service.leases)))
    service.tasks += [make_task("a"), make_task("b")]

    Workplace(service, lease_ahead=False).run()

    assert order == [("a", 1), ("b", 2)]


def test_a_result_tells_what_its_pass_took(service: FakeService):
    class Caching(FakeEngine):
        def score(self, request: ScoreRequest) -> Scored:
            return replace(super().score(request), prompt_tokens=len(request.tokens))

        def answer(self, request: SampleRequest, sample: int, sampling: Sampling) -> Sampled:
            time.sleep(0.01)
            length = len(request.tokens)
            return replace(super().answer(request, sample, sampling), prompt_tokens=length, cached_tokens=length - 1)

    service.tasks += [make_task("a"), make_task("b")]

    Workplace(service, Caching()).run()

    prompts = [len(f"{n} + {n + 1}?\nAnswer:") + 1 for n in range(3)]
    targets = [len(f" {example.trace}\nDone.") for example in examples(3)]
    for effort in (read_effort(service.results[task][0]) for task in ("a", "b")):
        assert effort is not None
        assert effort.prompt_tokens == 3 * sum(prompts) + sum(targets)  # scored once, sampled twice
        assert effort.cached_tokens == 2 * sum(prompts) - 6
        assert 0.06 <= effort.engine_seconds < 5.0
        assert 0.0 <= effort.waiting_seconds < 5.0


def test_while_an_engine_waits_for_grades_no_time_of_it_is_taken(service: FakeService):
    class Slow(Comparing):
        """Grades take 0.2 s, one beside the other."""

        def submit(self, reference: str, answer: str) -> Future[Grade]:
            grade, later = super().submit(reference, answer).result(), Future[Grade]()
            threading.Timer(0.2, later.set_result, [grade]).start()
            return later

    class SlowlyGraded(Workplace):
        def make_graders(self, choice: GraderChoice) -> Slow:
            return Slow()

    sampling = Sampling(samples=4, max_tokens=64)
    goal = DrawPlan(rows=[0, 1, 2], floor=[-1, -1, -1], ceiling=[1, 1, 1])
    service.tasks += [make_task("a", kind="draw", plan=goal, sampling=sampling)]

    SlowlyGraded(service).run()

    effort = read_effort(service.results["a"][0])
    assert effort is not None
    assert effort.engine_seconds < effort.waiting_seconds  # it answers at once
    assert effort.waiting_seconds > 0.35  # an answer of each row, its grade, and more where that says so
    assert service.frame("a")["texts"].list.len().max() > 1


def test_a_pass_has_as_long_to_go_as_its_answers_took():
    now = [100.0]
    pace = Pace(clock=lambda: now[0])
    pace.begin(lambda: 30)
    assert pace.seconds_left == float("inf")

    for _ in range(10):
        now[0] += 0.5
        pace.answer()

    assert pace.seconds_left == pytest.approx(10.0)
    pace.end()
    assert pace.seconds_left == 0.0


def test_answers_that_are_asked_for_later_count_from_then_on():
    now = [0.0]
    feed = Feed([SampleRequest(0, (1,), (7, 8))])
    pace = Pace(clock=lambda: now[0])
    pace.begin(lambda: feed.answers)
    now[0] = 1.0
    pace.answer()
    assert pace.seconds_left == pytest.approx(1.0)

    feed.add([ScoreRequest(1, (1, 2), 1), SampleRequest(1, (1,), (9,))])

    assert pace.seconds_left == pytest.approx(3.0)


def working(
    service: FakeService, engine: Pausing, workplace: Workplace | None = None, *, chat: Chat | None = None
) -> Workplace:
    """A worker that stands before its last answers to the first task, with the second one leased."""
    workplace = workplace or Workplace(service, engine, chat=chat)
    workplace.thread.start()
    assert engine.pausing.wait(10)
    assert service.wait_for(lambda: len(service.leases) == 2)
    time.sleep(0.1)  # its rows come
    return workplace


@pytest.mark.parametrize("template", [Template(), Template(chat=True, system="Be brief.")], ids=["plain", "chat"])
def test_the_next_shard_is_drawn_in_the_same_run_with_the_same_results(service: FakeService, template: Template):
    def tasks() -> list[LeasedTask]:
        return [
            make_task(name, start=3 * n, stop=3 * n + 3, template=template)
            for n, name in enumerate(["a", "b", "c", "d"])
        ]

    def chatting(engine: Pausing) -> Pausing:
        engine.tokenizer = make_tokenizer()  # type: ignore[assignment]
        return engine

    service.tasks += tasks()
    Workplace(service, chatting(Pausing(before=0)), lease_ahead=False, chat=CHATS).run()
    alone = {task: service.results.pop(task) for task in ("a", "b", "c", "d")}
    service.leases.clear()
    service.tasks += tasks()
    engine = chatting(Pausing(before=LAST - 1, seconds_each=0.01))
    workplace = working(service, engine, chat=CHATS)
    engine.go.set()
    workplace.thread.join(10)

    assert engine.runs == 1
    for task, (content,) in alone.items():
        assert decode(service.results[task][0])[0] == decode(content)[0]
    assert not service.released


@pytest.mark.parametrize(
    "other",
    [
        {"job": "other"},
        {"dtype": "bfloat16"},
        {"checkpoint": Checkpoint(path="/runs/checkpoint-7", name="c7")},
        {"start": 2, "stop": 4},
        {"sampling": Sampling(samples=2, max_tokens=64, temperature=0.3)},
        {"kind": "embed"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_task_that_cannot_share_the_run_waits_for_its_turn(service: FakeService, other: dict[str, Any]):
    service.tasks += [make_task("a"), make_task("b", start=3, stop=6).model_copy(update=other)]
    engine = Pausing(before=LAST - 1)
    workplace = working(service, engine)
    engine.go.set()
    workplace.thread.join(10)

    assert engine.runs == (1 if other.get("kind") == "embed" else 2)
    assert list(service.results) == ["a", "b"]


def test_a_checkpoint_that_was_written_anew_is_loaded_before_the_next_task(service: FakeService):
    service.tasks += [make_task("a"), make_task("b", start=3, stop=6)]
    engine = Pausing(before=LAST - 1)
    workplace = Workplace(service, engine)
    workplace.stamps = count()
    workplace.thread.start()
    assert engine.pausing.wait(10)
    assert service.wait_for(lambda: len(service.leases) == 2)
    time.sleep(0.1)
    engine.go.set()
    workplace.thread.join(10)

    assert engine.runs == 2
    assert list(service.results) == ["a", "b"]


def test_a_task_begun_ahead_is_begun_anew_after_the_one_before_was_taken_away(service: FakeService):
    service.tasks += [make_task("a", lease_seconds=0.3), make_task("b", start=3, stop=6)]
    engine = Pausing(before=LAST - 1)
    workplace = working(service, engine)
    service.cancelled.add("a")
    assert service.wait_for(lambda: engine.runs == 2)
    engine.go.set()
    workplace.thread.join(10)

    assert list(service.results) == ["b"]
    assert engine.runs == 2


def test_a_task_begun_ahead_is_given_back_with_a_worker_that_ends(service: FakeService):
    service.tasks += [make_task("a"), make_task("b", start=3, stop=6)]
    workplace = working(service, Pausing(before=LAST - 1))
    workplace.end()

    assert sorted(service.released) == [("a", 1), ("b", 1)]
    assert not service.results
