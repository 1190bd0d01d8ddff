from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from fastapi import Response

from premem.errors import CheckpointError, EngineError, GraderError, InputError, NotFound, ServiceError
from premem.payloads.effort import read_effort
from premem.payloads.embeddings import check as check_embeddings
from premem.payloads.results import WEIGHTS
from premem.payloads.results import check as check_result
from premem.wire.bodies import GraderChoice
from premem.wire.jobs import Perturbation
from premem.wire.tasks import TaskKind
from premem_worker.engines.requests import Scored, ScoreRequest
from premem_worker.loop import failure_report
from tests.fakes import FakeEngine, FakeService, examples, make_task, nan, problem
from tests.worker.engines.resting import Held
from tests.worker.workplace import Workplace


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService(rows=examples(12)) as fake:
        yield fake


def test_a_task_is_scored_sampled_graded_and_handed_in(service: FakeService):
    service.tasks.append(make_task(start=2, stop=5, checkpoint="/runs/checkpoint-10"))

    Workplace(service).run()

    frame = service.frame("task-1")
    assert frame["row"].to_list() == [2, 3, 4]
    assert frame["verdicts"].to_list() == [["right", "right"]] * 3
    assert not service.failures
    assert not service.released


@pytest.mark.parametrize("kind", ["train", "embed"])
def test_a_result_says_what_made_it_and_what_that_took(service: FakeService, kind: TaskKind):
    service.tasks.append(make_task(kind=kind))
    workplace = Workplace(service)
    workplace.weights = "w9"

    workplace.run()

    read = check_embeddings if kind == "embed" else partial(check_result, samples=2, kind=kind)
    _, made_by = read(service.results["task-1"][0], start=0, stop=3)
    assert (made_by["engine"], made_by["tokenizer"], made_by[WEIGHTS]) == ("fake", "usual", "w9")
    effort = read_effort(service.results["task-1"][0])
    assert effort is not None
    assert effort.engine_seconds >= 0


def test_the_checkpoint_in_memory_is_named_when_the_next_task_is_asked_for(service: FakeService):
    service.tasks += [make_task("a"), make_task("b"), make_task("c", checkpoint="/runs/checkpoint-6")]
    workplace = Workplace(service)

    workplace.run()

    loaded = [request.loaded_checkpoint for request in service.leases]
    assert loaded[:4] == [None, "/runs/checkpoint-5", "/runs/checkpoint-5", "/runs/checkpoint-6"]
    assert [str(path) for path, _ in workplace.engine.loads] == ["/runs/checkpoint-5", "/runs/checkpoint-6"]
    assert workplace.engines_made == 1


def test_an_engine_that_gives_no_hidden_states_makes_room_for_one_that_does_and_comes_back(service: FakeService):
    service.tasks += [
        make_task("a"),
        make_task("b", kind="embed", stop=2),
        make_task("c", kind="embed"),
        make_task("d"),
    ]
    workplace = Workplace(service)

    workplace.run()

    embedded, _ = check_embeddings(service.results["b"][-1], start=0, stop=2)
    assert embedded["embedding"].to_list() == [[0.0, 1.0], [1.0, 2.0]]
    assert (workplace.engines_made, len(workplace.embedders)) == (2, 1)
    assert workplace.embedders[0].closed
    assert service.frame("d").equals(service.frame("a"))


def test_an_engine_that_gives_hidden_states_itself_goes_on(service: FakeService):
    service.tasks += [make_task("a"), make_task("b", kind="embed"), make_task("c")]
    workplace = Workplace(service, embeds_itself=True)

    workplace.run()

    assert set(service.results) == {"a", "b", "c"}
    assert (workplace.engines_made, len(workplace.embedders)) == (0, 1)
    assert len(workplace.embedders[0].loads) == 1


def test_no_graders_are_started_to_embed(service: FakeService):
    service.tasks.append(make_task(kind="embed"))
    workplace = Workplace(service)

    workplace.run()

    assert service.results
    assert not workplace.graders


def test_answers_are_graded_anew_without_an_engine(service: FakeService):
    service.tasks.append(make_task("first"))
    sampling = Workplace(service)
    sampling.run()
    service.sources["again"] = service.results["first"][-1]
    service.tasks.append(make_task("again", regrade=True, checkpoint="/gone"))
    grading = Workplace(service, has_engine=False)

    grading.run()

    assert service.frame("again").equals(service.frame("first"))
    assert service.leases[-1].engine is None
    assert grading.engines_made == 0


def test_questions_are_taken_from_the_column_that_rewrites_them(service: FakeService):
    service.columns = [{"reworded": f"{n} and one?"} for n in range(12)]
    change = Perturbation(name="a", question_column="reworded")
    service.tasks.append(make_task(kind="perturbed", variant=1, perturbation=change, start=5, stop=6))

    Workplace(service).run()

    assert service.frame("task-1")["texts"].to_list()[0][0].startswith(" It is 5 ")


def test_the_same_graders_serve_tasks_of_the_same_choice(service: FakeService):
    other = GraderChoice(name="exact")
    service.tasks += [make_task("a"), make_task("b"), make_task("c", grader=other)]
    workplace = Workplace(service)

    workplace.run()
    workplace.worker.close()

    assert [choice.name for choice, _ in workplace.graders] == ["gsm8k", "exact"]
    assert all(graders.closed for _, graders in workplace.graders)


def test_the_key_is_sent_with_every_request(service: FakeService):
    service.tasks.append(make_task(lease_seconds=0.3))
    held = Held()
    workplace = Workplace(service, held, api_key="pmk_a_b")
    workplace.thread.start()
    assert service.wait_for(lambda: service.beats["task-1"])
    held.go.set()
    workplace.thread.join(10)

    assert service.results
    assert service.authorizations == {"Bearer pmk_a_b"}


def test_heartbeats_go_on_while_a_model_loads(service: FakeService):
    loading = threading.Event()

    class Slow(FakeEngine):
        def load(self, checkpoint: Path, *, dtype: str | None, adapter: Path | None = None) -> None:
            loading.wait(20)
            super().load(checkpoint, dtype=dtype, adapter=adapter)

    service.tasks.append(make_task(lease_seconds=0.3))
    workplace = Workplace(service, Slow())
    workplace.thread.start()
    assert service.wait_for(lambda: service.beats["task-1"] >= 3)
    loading.set()
    workplace.thread.join(10)

    assert list(service.results) == ["task-1"]


def test_a_task_whose_heartbeat_is_stale_is_dropped_quietly_and_the_next_one_done(service: FakeService):
    service.tasks.append(make_task("a", lease_seconds=0.3))
    held = Held()
    workplace = Workplace(service, held, exit_when_idle=60)
    workplace.thread.start()
    assert held.entered.wait(10)
    service.stale.add("a")
    assert service.wait_for(lambda: len(service.leases) >= 2)
    held.go.set()
    service.tasks.append(make_task("b"))
    assert service.wait_for(lambda: "b" in service.results)
    workplace.end()

    assert list(service.results) == ["b"]
    assert not service.failures
    assert not service.released


def test_a_result_that_is_stale_is_thrown_away_and_the_next_task_done(service: FakeService):
    service.stale.add("a")
    service.tasks += [make_task("a"), make_task("b")]

    Workplace(service).run()

    assert list(service.results) == ["b"]
    assert not service.failures


def test_a_cancelled_task_is_dropped(service: FakeService):
    service.cancelled.add("a")
    service.tasks += [make_task("a", lease_seconds=0.3)]
    workplace = Workplace(service, Held())

    workplace.run()

    assert service.beats["a"] >= 1
    assert not service.results
    assert not service.failures
    assert not service.released


def test_a_service_that_goes_away_and_comes_back_gets_its_result(service: FakeService):
    service.tasks.append(make_task("a"))
    held = Held()
    workplace = Workplace(service, held, exit_when_idle=60)
    workplace.thread.start()
    assert held.entered.wait(10)
    service.stop()
    held.go.set()
    service.start()
    service.tasks.append(make_task("b"))
    assert service.wait_for(lambda: {"a", "b"} <= set(service.results))
    workplace.end()

    assert not service.failures


def test_a_worker_waits_for_a_service_that_is_not_there_yet():
    service = FakeService(rows=examples(3))
    service.tasks.append(make_task())
    workplace = Workplace(service, exit_when_idle=60)
    workplace.thread.start()
    service.start()

    assert service.wait_for(lambda: service.results)
    workplace.end()
    service.stop()


def test_a_proxys_503_is_waited_out(service: FakeService):
    service.tasks.append(make_task())
    service.answers_with = Response(status_code=503, headers={"Retry-After": "0.05"})
    workplace = Workplace(service, exit_when_idle=60)
    workplace.thread.start()
    assert service.wait_for(lambda: service.requests > 3)
    service.answers_with = None

    assert service.wait_for(lambda: service.results)
    workplace.end()


def test_a_worker_whose_key_is_refused_says_so_and_ends(service: FakeService):
    service.answers_with = problem(401, "/problems/unauthorized", "this key is not known")

    with pytest.raises(ServiceError, match="this key is not known") as refused:
        Workplace(service).worker.run()
    assert refused.value.status == 401


def test_an_engine_that_fails_is_reported_closed_and_made_anew(service: FakeService):
    faults = [EngineError("out of memory")]

    class Failing(FakeEngine):
        def load(self, checkpoint: Path, *, dtype: str | None, adapter: Path | None = None) -> None:
            if faults:
                raise faults.pop()
            super().load(checkpoint, dtype=dtype, adapter=adapter)

    service.tasks += [make_task("a"), make_task("b")]
    workplace = Workplace(service, Failing(), exit_when_idle=5, once=False)
    workplace.thread.start()
    assert service.wait_for(lambda: "b" in service.results)
    workplace.end()

    ((task, report),) = service.failures
    assert (task, report.error, report.permanent, report.checkpoint) == ("a", "out of memory", False, False)
    assert workplace.engine.closed
    assert workplace.engines_made == 2


def test_a_bug_in_the_worker_is_reported_with_its_name(service: FakeService):
    class Buggy(FakeEngine):
        def load(self, checkpoint: Path, *, dtype: str | None, adapter: Path | None = None) -> None:
            raise KeyError("lm_head")

    service.tasks.append(make_task())

    Workplace(service, Buggy(), once=True).run()

    ((_, report),) = service.failures
    assert report.error == "KeyError: 'lm_head'"
    assert not report.permanent


def test_a_checkpoint_whose_numbers_are_none_is_the_checkpoints_fault(service: FakeService):
    class Sick(FakeEngine):
        def score(self, request: ScoreRequest) -> Scored:
            return nan(request) if str(self.checkpoint).endswith("5") else super().score(request)

    service.tasks += [make_task("a"), make_task("b", checkpoint="/runs/checkpoint-6")]
    workplace = Workplace(service, Sick())

    workplace.run()

    ((task, report),) = service.failures
    assert task == "a"
    assert report.permanent
    assert report.checkpoint
    assert "checkpoint-5" in report.error
    assert list(service.results) == ["b"]
    assert workplace.engines_made == 1


def test_a_checkpoint_with_another_tokenizer_is_refused_before_it_is_loaded(service: FakeService):
    service.tasks += [make_task(tokenizer="usual", checkpoint="/runs/other-1"), make_task("b", tokenizer="usual")]
    workplace = Workplace(service)

    workplace.run()

    ((_, report),) = service.failures
    assert report.permanent
    assert report.checkpoint
    assert "has another tokenizer than the checkpoints before it" in report.error
    assert [path.name for path, _ in workplace.engine.loads] == ["checkpoint-5"]


def test_a_data_set_that_vanished_fails_the_task_for_good(service: FakeService):
    service.tasks.append(make_task().model_copy(update={"dataset": "gone"}))

    Workplace(service).run()

    ((_, report),) = service.failures
    assert report.error == "there is no data set gone"
    assert report.permanent
    assert not report.checkpoint


def test_rows_that_are_not_those_asked_for_are_not_scored(service: FakeService):
    service.tasks.append(make_task(start=10, stop=14))

    Workplace(service, once=True).run()

    ((_, report),) = service.failures
    assert "asked for the rows 10 to 13 of data set data, the service sent others" in report.error


@pytest.mark.parametrize(
    ("error", "permanent", "checkpoint"),
    [
        (CheckpointError("no weights"), True, True),
        (InputError("no prompt"), True, False),
        (NotFound("no data set"), True, False),
        (GraderError("no grader named x"), False, False),
        (EngineError("dead"), False, False),
        (ServiceError("what?"), False, False),
        (MemoryError(), False, False),
    ],
)
def test_a_failure_is_permanent_where_trying_again_cannot_help(error: Exception, permanent: bool, checkpoint: bool):
    report = failure_report(error, attempt=3)

    assert (report.attempt, report.permanent, report.checkpoint) == (3, permanent, checkpoint)
    assert report.error


def test_a_failures_message_is_cut_and_made_unicode():
    report = failure_report(InputError("\ud800" + "x" * 20_000), attempt=1)

    assert len(report.error) == 10_000
    assert report.model_dump_json()


def test_a_worker_that_is_asked_to_end_gives_its_task_back(service: FakeService):
    service.tasks.append(make_task(attempt=4))
    held = Held()
    workplace = Workplace(service, held)
    workplace.thread.start()
    assert held.entered.wait(10)
    workplace.end()

    assert service.released == [("task-1", 4)]
    assert not service.results
    assert not service.failures


def test_once_is_one_task(service: FakeService):
    service.tasks += [make_task("a"), make_task("b")]

    Workplace(service, once=True).run()

    assert list(service.results) == ["a"]


def test_a_checkpoint_of_other_weights_than_before_is_not_even_loaded(service: FakeService):
    service.tasks.append(make_task().model_copy(update={"weights": "w1"}))
    workplace = Workplace(service)
    workplace.weights = "w2"

    workplace.run()

    assert not service.results
    assert not workplace.engine.loads
    ((_, report),) = service.failures
    assert report.checkpoint
    assert report.permanent
    assert "'checkpoint-5' was written anew between two tasks" in report.error


@pytest.mark.parametrize(("kind", "doing"), [("train", "scored"), ("embed", "embedded with")])
def test_a_checkpoint_that_is_written_anew_in_the_middle_of_a_pass_is_not_handed_in(
    service: FakeService, kind: TaskKind, doing: str
):
    service.tasks.append(make_task(kind=kind))
    workplace = Workplace(service)
    workplace.overwritten = "model.safetensors"

    workplace.run()

    assert not service.results
    ((task, report),) = service.failures
    assert task == "task-1"
    assert report.checkpoint
    assert f"written anew while it was {doing} (model.safetensors" in report.error
