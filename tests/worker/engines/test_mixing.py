"""Two adapters of one base in one batch: the last answers of one task beside the first ones of the next."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import pytest

from premem.errors import CheckpointError, EngineError
from premem.payloads.results import RowResult, decode
from premem.wire.jobs import Sampling
from premem.wire.tasks import LeasedTask
from premem_worker.engines.feed import Feed
from premem_worker.engines.protocol import Sampled, SampleRequest, Scored, ScoreRequest
from premem_worker.engines.vllm.adapters import BASE, Beside
from premem_worker.engines.vllm.run import Steps
from premem_worker.lifetime.shutdown import Ending
from premem_worker.loop import Worker
from premem_worker.parts import Located, Parts, real_parts
from premem_worker.passes.stream import Stream
from premem_worker.settings import Settings
from tests.checkpoints import make_checkpoint
from tests.fakes import Comparing, FakeEngine, FakeService, examples, make_task
from tests.worker.checkpoints.test_adapters import make_adapter
from tests.worker.engines.resting import Pausing
from tests.worker.engines.test_vllm import out_of_memory_after
from tests.worker.tasks.test_prefetch import LAST, working
from tests.worker.workplace import Workplace

SAMPLING = Sampling(samples=2, max_tokens=64)
needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")


class Adapted(Workplace):
    """Every checkpoint is an adapter beside a base."""

    def __init__(self, service: FakeService, engine: FakeEngine | None = None, **settings: object) -> None:
        super().__init__(service, engine, **settings)
        self.bases: dict[str, str] = {}
        self.written_anew: set[str] = set()

    def locate(self, path: str, base: str | None = None) -> Located:
        folder = Path(self.bases.get(path, "/runs/base"))
        return Located(
            folder,
            self.tokenizers.get(path, "usual"),
            adapter=Path(path),
            stamps={folder: 0, Path(path): 0},
            overwritten=lambda: "adapter_model.safetensors" if path in self.written_anew else None,
        )


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService(rows=examples(12)) as fake:
        yield fake
        fake.takes_results.set()


def tasks() -> list[LeasedTask]:
    """The same rows at three adapters."""
    return [make_task(name, checkpoint=f"/runs/adapter-{n}") for name, n in (("a", 3), ("b", 7), ("c", 9))]


def mixing(service: FakeService, engine: Pausing, prepare: Callable[[Adapted], object] = lambda _: None) -> Adapted:
    """A worker that stands before its last answer but one to the first task, with the second one leased."""
    workplace = Adapted(service, engine)
    prepare(workplace)
    working(service, engine, workplace)
    return workplace


def finish(workplace: Adapted, engine: Pausing) -> None:
    engine.go.set()
    workplace.thread.join(10)
    assert not workplace.thread.is_alive()


def test_the_same_rows_at_other_adapters_are_drawn_in_one_run_with_the_results_of_each_alone(service: FakeService):
    service.tasks += tasks()
    Adapted(service, lease_ahead=False).run()
    alone = {task: decode(service.results.pop(task)[0])[0] for task in ("a", "b", "c")}
    service.leases.clear()
    service.tasks += tasks()
    engine = Pausing(before=LAST - 1, seconds_each=0.01)

    finish(mixing(service, engine), engine)

    assert engine.runs == 1
    assert [path for path, _ in engine.loads] == [Path("/runs/adapter-3")]
    assert engine.held == [Path("/runs/adapter-7"), Path("/runs/adapter-9")]
    assert {task: decode(sent[0])[0] for task, sent in service.results.items()} == alone
    assert alone["a"] != alone["b"] != alone["c"]


def test_the_next_task_is_leased_as_by_a_worker_that_has_the_adapter_of_the_one_in_hand(service: FakeService):
    service.tasks += tasks()
    engine = Pausing(before=LAST - 1, seconds_each=0.01)

    finish(mixing(service, engine), engine)

    assert [lease.loaded_checkpoint for lease in service.leases][:4] == [
        None,
        "/runs/adapter-3",
        "/runs/adapter-7",
        "/runs/adapter-9",
    ]


def lacks_place(workplace: Adapted) -> None:
    workplace.engine.adapters_at_once = 1


def has_another_base(workplace: Adapted) -> None:
    workplace.bases["/runs/adapter-7"] = "/runs/other"


def has_another_tokenizer(workplace: Adapted) -> None:
    workplace.tokenizers["/runs/adapter-7"] = "another"


@pytest.mark.parametrize("prepare", [lacks_place, has_another_base, has_another_tokenizer])
def test_an_adapter_that_cannot_be_held_beside_the_one_in_hand_waits_for_its_turn(
    service: FakeService, prepare: Callable[[Adapted], object]
):
    service.tasks += tasks()[:2]
    engine = Pausing(before=LAST - 1)

    finish(mixing(service, engine, prepare), engine)

    assert engine.runs == 2
    assert [path for path, _ in engine.loads] == [Path("/runs/adapter-3"), Path("/runs/adapter-7")]
    assert list(service.results) == ["a", "b"]


def test_an_adapter_that_cannot_be_read_is_told_in_its_turn_and_harms_no_other(service: FakeService):
    class Choosing(Pausing):
        def beside(self, checkpoint: Path, *, dtype: str | None, adapter: Path | None, keep: Set[int]) -> int | None:
            raise CheckpointError(f"{adapter} is broken")

        def load(self, checkpoint: Path, *, dtype: str | None, adapter: Path | None = None) -> None:
            if adapter == Path("/runs/adapter-7"):
                raise CheckpointError(f"{adapter} is broken")
            super().load(checkpoint, dtype=dtype, adapter=adapter)

    service.tasks += tasks()
    engine = Choosing(before=LAST - 1)

    finish(mixing(service, engine), engine)

    ((task, report),) = service.failures
    assert (task, report.error, report.checkpoint) == ("b", "/runs/adapter-7 is broken", True)
    assert list(service.results) == ["a", "c"]


def test_an_adapter_written_anew_while_it_is_in_use_fails_alone(service: FakeService):
    service.tasks += tasks()
    engine = Pausing(before=LAST - 1, seconds_each=0.01)

    finish(mixing(service, engine, lambda at: at.written_anew.add("/runs/adapter-7")), engine)

    ((task, report),) = service.failures
    assert task == "b"
    assert "adapter_model.safetensors" in report.error
    assert list(service.results) == ["a", "c"]


def test_an_adapter_begun_ahead_is_loaded_after_the_task_before_was_taken_away(service: FakeService):
    class PausingAgain(Pausing):
        def beside(self, checkpoint: Path, *, dtype: str | None, adapter: Path | None, keep: Set[int]) -> int | None:
            self.go.clear()
            self.before = LAST
            return super().beside(checkpoint, dtype=dtype, adapter=adapter, keep=keep)

    first, second = tasks()[:2]
    service.tasks.append(second)
    Adapted(service).run()
    alone = decode(service.results.pop("b")[0])[0]
    service.leases.clear()
    service.tasks += [first.model_copy(update={"lease_seconds": 0.3}), second]
    engine = PausingAgain(before=LAST - 1)
    workplace = mixing(service, engine)
    engine.go.set()
    assert service.wait_for(lambda: engine.held == [Path("/runs/adapter-7")])
    service.cancelled.add("a")
    assert service.wait_for(lambda: engine.runs == 2)

    finish(workplace, engine)

    assert [path for path, _ in engine.loads] == [Path("/runs/adapter-3"), Path("/runs/adapter-7")]
    assert list(service.results) == ["b"]
    assert decode(service.results["b"][0])[0] == alone


def asked(*rows: int) -> Feed:
    feed = Feed(SampleRequest(row, tuple(f"{row} + 1?".encode()), (1, 2)) for row in rows)
    feed.close()
    return feed


def answers(stream: Stream, feed: Feed) -> Iterator[Scored | Sampled]:
    return stream.run(feed, sampling=SAMPLING, stopped=lambda: False)


def test_answers_to_the_same_rows_are_told_apart_by_their_model():
    engine = FakeEngine()
    engine.load(Path("/base"), dtype=None, adapter=Path("/adapter-0"))
    stream = Stream(engine)
    first, second = asked(0, 1), asked(0, 1)
    running = answers(stream, first)
    got = [next(running)]

    model = stream.beside(Path("/base"), dtype=None, adapter=Path("/adapter-10"))
    assert model == 1
    assert not stream.takes(range(2), SAMPLING)
    assert stream.takes(range(2), SAMPLING, model=model)
    stream.begin(second, model=model)
    own, others = [*got, *running], list(answers(stream, second))

    assert [(one.row, one.model) for one in own] == [(0, 0), (0, 0), (1, 0), (1, 0)]
    assert [(one.row, one.model) for one in others] == [(0, 1), (0, 1), (1, 1), (1, 1)]
    assert {one.text for one in own}.isdisjoint(one.text for one in others)  # all wrong, all right


def test_what_is_asked_later_is_asked_of_the_same_model_and_a_third_pass_goes_on_with_it():
    engine = FakeEngine()
    engine.load(Path("/base"), dtype=None, adapter=Path("/adapter-0"))
    stream = Stream(engine)
    second = Feed([SampleRequest(0, tuple(b"0 + 1?"), (1,))])
    running = answers(stream, asked(0))
    next(running)
    stream.begin(second, model=stream.beside(Path("/base"), dtype=None, adapter=Path("/adapter-10")))
    second.add([SampleRequest(0, tuple(b"0 + 1?"), (2,), first=1)])
    second.close()
    list(running)
    turn = answers(stream, second)
    got = [next(turn)]
    assert stream.takes(range(3, 4), SAMPLING)
    stream.begin(third := asked(3))

    assert {one.model for one in [*got, *turn, *answers(stream, third)]} == {1}


class Holding:
    """What is asked of a vLLM engine to hold."""

    def __init__(self) -> None:
        self.held: list[int] = []

    def add_lora(self, request: Any) -> None:
        if "broken" in request.lora_path:
            raise ValueError("no adapter")
        self.held.append(request.lora_int_id)

    def remove_lora(self, number: int) -> None:
        self.held.remove(number)


def add(beside: Beside, llm: Holding, name: str, keep: Set[int] = frozenset()) -> int | None:
    return beside.add(llm, (Path(name), (name,)), lambda folder, request: None, keep=keep)


@needs_vllm
def test_the_longest_unused_adapter_makes_room_but_none_that_is_kept():
    llm, beside = Holding(), Beside(2)
    beside.start(rank=5)

    assert [add(beside, llm, name) for name in ("/a", "/b")] == [1, 2]
    assert add(beside, llm, "/c", keep={1, 2}) is None
    assert beside.find((Path("/a"), ("/a",))) == 1  # used again
    assert add(beside, llm, "/c") == 3
    assert llm.held == [1, 3]
    assert beside.find((Path("/a"), ("written anew",))) is None
    assert beside.request(3).lora_path == "/c"
    assert beside.request(BASE) is None
    assert beside.rank == 8


@needs_vllm
def test_an_adapter_that_is_not_what_it_should_be_is_not_held():
    llm, beside = Holding(), Beside(2)

    def differs(folder: Path, request: Any) -> None:
        raise EngineError("they do not agree")

    with pytest.raises(CheckpointError, match="vLLM cannot load the adapter /broken: no adapter"):
        add(beside, llm, "/broken")
    with pytest.raises(EngineError, match="do not agree"):
        beside.add(llm, (Path("/a"), ()), differs, keep=frozenset())

    assert llm.held == []
    assert beside.find((Path("/a"), ())) is None


class Answer:
    def __init__(self, name: str) -> None:
        self.request_id = name


class Stepping:
    def __init__(self, *steps: str) -> None:
        self.steps = list(steps)

    def step(self) -> list[Answer]:
        if not self.steps:
            raise RuntimeError("it broke")
        return [Answer(name) for name in self.steps.pop(0)]


def names(answers: Sequence[Any]) -> str:
    return "".join(answer.request_id for answer in answers)


def test_answers_that_come_while_another_is_waited_for_are_kept():
    steps = Steps(Stepping("ab", "c", "dxe", "f"))

    assert names(steps.take()) == "ab"
    assert steps.until("x").request_id == "x"
    assert names(steps.take()) == "cde"
    assert names(steps.take()) == "f"


def test_a_step_that_failed_while_another_answer_was_waited_for_fails_the_pass():
    steps = Steps(Stepping("a"))

    with pytest.raises(RuntimeError, match="it broke"):
        steps.until("x")
    assert steps.failed
    with pytest.raises(RuntimeError, match="it broke"):
        steps.take()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    make_checkpoint(folder / "base", seed=1)
    for step in (3, 7, 9):
        make_adapter(folder / f"adapter-{step}", folder / "base", seed=step)
    make_adapter(folder / "wide", folder / "base", seed=6, r=24)
    return folder


@needs_vllm
@pytest.mark.vllm
def test_two_adapters_in_one_batch_score_and_answer_as_each_merged_and_alone(
    run: Path, tmp_path: Path, service: FakeService
):
    from premem_worker.engines.vllm.engine import VllmEngine

    def results(adapters: str, engine: VllmEngine, **settings: object) -> dict[str, list[RowResult]]:
        for task in tasks():
            path = str(run / Path(task.checkpoint.path).name)
            checkpoint = task.checkpoint.model_copy(update={"path": path})
            service.tasks.append(task.model_copy(update={"checkpoint": checkpoint, "stop": 6, "dtype": "float32"}))
        how = {"checkpoint_roots": [run], "cache": tmp_path, "service": service.url, "exit_when_idle": 0.3}
        chosen = Settings(engine="vllm", adapters=adapters, **how, **settings)
        located = real_parts(chosen).locate
        parts = Parts("vllm", lambda: engine, None, located, lambda choice: Comparing())
        worker = Worker(chosen, parts, ending=Ending())
        assert worker.run() == 0
        worker.close()
        assert not service.failures
        return {task: decode(service.results.pop(task)[0])[0] for task in ("a", "b", "c")}

    alone = results("merged", VllmEngine(max_sequences=8), lease_ahead=False)
    engine = watched()(max_sequences=8)
    mixed = results("beside", engine)

    assert engine.runs == 1
    assert max(map(len, engine.batches)) == 2
    for task, rows in alone.items():
        assert [row.perplexity for row in mixed[task]] == pytest.approx([row.perplexity for row in rows], rel=1e-4)
        assert [[one.text for one in row.answers] for row in mixed[task]] == [
            [one.text for one in row.answers] for row in rows
        ]
    assert alone["a"] != alone["b"] != alone["c"]


def watched() -> type:
    from premem_worker.engines.vllm.engine import VllmEngine

    class Watched(VllmEngine):
        """Notes which adapters each step of the model mixes."""

        runs = 0

        def __init__(self, **how: Any) -> None:
            super().__init__(**how)
            self.batches: list[set[int]] = []

        def run(self, *args: Any, **how: Any) -> Iterator[Scored | Sampled]:
            self.runs += 1
            yield from super().run(*args, **how)

        def _start(self, *how: Any) -> Any:
            started = super()._start(*how)
            step, scheduler = self._llm.step, self._llm.engine_core.engine_core.scheduler

            def noting() -> Any:
                outputs = step()
                running = [one.lora_request for one in scheduler.running]
                self.batches.append({one.lora_int_id for one in running if one is not None})
                return outputs

            self._llm.step = noting
            return started

    return Watched


@needs_vllm
@pytest.mark.vllm
def test_what_does_not_go_beside_is_refused_and_what_is_held_is_found_again(run: Path, tmp_path: Path):
    from premem_worker.engines.vllm.engine import VllmEngine

    def beside(name: str, *, base: Path = run / "base", keep: Set[int] = frozenset({0})) -> int | None:
        adapter = None if name == "base" else run / name
        return engine.beside(base, dtype="float32", adapter=adapter, keep=keep)

    def scores(model: int) -> float:
        request = ScoreRequest(0, (1, 40, 50, 60, 70, 80), 1, model=model)
        (scored,) = engine.run([request], sampling=SAMPLING, stopped=lambda: False)
        assert isinstance(scored, Scored)
        return scored.log_likelihood

    engine = VllmEngine(max_sequences=8)
    engine.load(run / "base", dtype="float32")
    assert beside("base") == 0
    assert beside("adapter-3") is None  # it was started without a place for adapters
    engine.load(run / "base", dtype="float32", adapter=run / "adapter-3")
    first, base = scores(0), scores(BASE)

    assert beside("base") == BASE
    assert beside("wide") is None  # a rank that the engine has no place for
    assert beside("adapter-7", base=make_checkpoint(tmp_path / "other", seed=2)) is None
    number = beside("adapter-7")
    assert number is not None
    second = scores(number)
    assert beside("adapter-9", keep={0, number}) is None
    assert beside("adapter-7") == number
    assert len({first, base, second}) == 3
    engine.load(run / "base", dtype="float32", adapter=run / "adapter-7")
    assert scores(0) == second
    third = beside("adapter-9")  # in the place of the first one
    assert third is not None
    engine.load(run / "base", dtype="float32", adapter=run / "adapter-3")
    assert scores(0) == first
    engine.close()
    assert not math.isclose(first, second)


@needs_vllm
@pytest.mark.vllm
def test_a_pass_that_lacks_memory_goes_on_with_both_adapters(run: Path, monkeypatch: pytest.MonkeyPatch):
    from premem_worker.engines.vllm.engine import VllmEngine

    engine = VllmEngine(max_sequences=8)
    engine.load(run / "base", dtype="float32", adapter=run / "adapter-3")
    number = engine.beside(run / "base", dtype="float32", adapter=run / "adapter-7", keep={0})
    assert number is not None
    models = (0, number)
    requests = [SampleRequest(row, (1, 40, 50, 60 + row), (row, row + 10), model=n) for row in range(6) for n in models]

    def answered() -> list[str]:
        outcomes = engine.run(requests, sampling=Sampling(max_tokens=8), stopped=lambda: False)
        return sorted(f"{one.model} {one}" for one in outcomes)

    undisturbed = answered()
    out_of_memory_after(engine, 3, monkeypatch)

    assert answered() == undisturbed
    assert engine._max_sequences == 4
    engine.close()


@needs_vllm
@pytest.mark.vllm
def test_an_adapter_that_vllm_takes_for_another_is_noticed_each_time(run: Path, monkeypatch: pytest.MonkeyPatch):
    from premem_worker.engines.vllm.engine import VllmEngine

    engine = VllmEngine(max_sequences=8)
    engine.load(run / "base", dtype="float32", adapter=run / "adapter-3")
    read = engine._llm.add_lora

    def another(request: Any) -> None:
        request.lora_path = str(run / "adapter-3")
        read(request)

    monkeypatch.setattr(engine._llm, "add_lora", another)
    for _ in range(2):
        with pytest.raises(EngineError, match="do not agree"):
            engine.beside(run / "base", dtype="float32", adapter=run / "adapter-7", keep={0})
    with pytest.raises(EngineError, match="do not agree"):
        engine.load(run / "base", dtype="float32", adapter=run / "adapter-7")
    engine.load(run / "base", dtype="float32", adapter=run / "adapter-7")  # in a fresh engine
    engine.close()
