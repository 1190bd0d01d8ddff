"""LoRA adapters that vLLM computes beside their base, one at a time."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from premem.errors import EngineError
from premem.payloads.results import RowResult, decode
from premem.wire.jobs import Sampling
from premem_worker.checkpoints.adapters import WEIGHTS
from premem_worker.checkpoints.located import Located
from premem_worker.engines.protocol import Engine
from premem_worker.engines.requests import SampleRequest
from premem_worker.lifetime.shutdown import Shutdown
from premem_worker.loop import Worker
from premem_worker.parts import Parts, real_parts
from premem_worker.settings import Settings
from tests.checkpoints import make_checkpoint
from tests.fakes import Comparing, FakeService, examples, make_task
from tests.worker.adapters import TOKENS, make_adapter, perplexity
from tests.worker.engines.resting import Stepping, out_of_memory_after
from tests.worker.workplace import Workplace

needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and two adapters of it."""
    folder = tmp_path_factory.mktemp("run")
    make_checkpoint(folder / "base", seed=1)
    for step in (10, 20):
        make_adapter(folder / f"checkpoint-{step}", folder / "base", seed=step)
    return folder


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService(rows=examples(12)) as fake:
        yield fake


@needs_vllm
@pytest.mark.vllm
def test_adapters_beside_their_base_score_and_answer_as_merged_ones_in_one_engine(run: Path, tmp_path: Path):
    from premem_worker.engines.vllm.engine import VllmEngine

    make_adapter(tmp_path / "wide", run / "base", seed=6, r=24, target_modules="all-linear")
    settings = {"checkpoint_roots": [run, tmp_path], "cache": tmp_path / "cache"}
    beside = real_parts(Settings(engine="vllm", adapters="beside", **settings))
    merged = real_parts(Settings(engine="vllm", adapters="merged", **settings))
    engine = VllmEngine(max_sequences=8)
    steps = [str(run / "checkpoint-10"), str(run / "checkpoint-20"), str(run / "base"), str(run / "checkpoint-10")]

    found, llms = [], []
    for step in [*steps, str(tmp_path / "wide"), steps[1]]:
        located = beside.locate(step, None)
        assert located.adapter == (None if step == steps[2] else Path(step))
        found.append((perplexity(located, engine), answers(engine)))
        llms.append(id(engine._llm))
    expected = {step: merged.locate(step, None) for step in [*steps, str(tmp_path / "wide")]}
    with_peft = [perplexity(expected[step]) for step in [*steps, str(tmp_path / "wide"), steps[1]]]
    answered = []
    for step in (steps[0], steps[1]):
        engine.load(expected[step].folder, dtype="float32")
        answered.append(answers(engine))
    engine.close()

    assert [score for score, _ in found] == pytest.approx(with_peft, rel=1e-5)
    assert [texts for _, texts in found[:2]] == answered
    assert found[0] == found[3]
    assert len(set(llms[:4])) == 1  # the base among them
    assert llms[3] != llms[4]  # a rank that the engine had no place for
    assert llms[4] == llms[5]


def answers(engine: Engine) -> list[str]:
    asked = [SampleRequest(row, (*TOKENS[: 3 + row],), (row, row + 10)) for row in range(3)]
    sampled = engine.run(asked, sampling=Sampling(max_tokens=8), stopped=lambda: False)
    return [repr(one) for one in sorted(sampled, key=lambda one: (one.row, one.sample))]  # type: ignore[union-attr]


class Adapted(Workplace):
    """Every checkpoint is an adapter beside the same base."""

    written_anew: str | None = None

    def locate(self, path: str, base: str | None = None) -> Located:
        located, folder = super().locate(path), Path("/runs/base")
        fault = WEIGHTS if path == self.written_anew else None
        stamps = {folder: 0, **located.stamps}
        return replace(located, folder=folder, adapter=Path(path), stamps=stamps, overwritten=lambda: fault)


def put_tasks(service: FakeService, folder: Path, *adapters: str, **change: object) -> None:
    """One for each adapter, all of the same rows."""
    for name in adapters:
        service.tasks.append(make_task(name, checkpoint=str(folder / name)).model_copy(update=change))


def taken(service: FakeService) -> dict[str, list[RowResult]]:
    """The results by their tasks, which are forgotten by the service."""
    assert not service.failures
    return {task: decode(service.results.pop(task)[0])[0] for task in sorted(service.results)}


def test_adapters_of_one_base_answer_one_after_the_other_with_the_results_of_each_alone(service: FakeService):
    names = ("adapter-3", "adapter-7", "adapter-9")
    put_tasks(service, Path("/runs"), *names)
    Adapted(service, lease_ahead=False).run()
    alone = taken(service)
    put_tasks(service, Path("/runs"), *names)
    engine = Stepping()

    Adapted(service, engine).run()

    assert engine.runs == 3
    assert tuple(path.name for path, _ in engine.loads) == names
    assert taken(service) == alone
    assert alone["adapter-3"] != alone["adapter-7"] != alone["adapter-9"]


def test_an_adapter_written_anew_while_it_is_in_use_fails_alone(service: FakeService):
    put_tasks(service, Path("/runs"), "adapter-3", "adapter-7", "adapter-9")
    workplace = Adapted(service)
    workplace.written_anew = "/runs/adapter-7"

    workplace.run()

    ((task, report),) = service.failures
    assert task == "adapter-7"
    assert WEIGHTS in report.error
    assert list(service.results) == ["adapter-3", "adapter-9"]


@needs_vllm
@pytest.mark.vllm
def test_a_worker_scores_and_answers_beside_the_base_as_with_merged_weights(
    run: Path, tmp_path: Path, service: FakeService
):
    from premem_worker.engines.vllm.engine import VllmEngine

    def scored(how: str) -> dict[str, list[RowResult]]:
        put_tasks(service, run, "checkpoint-10", "checkpoint-20", stop=6, dtype="float32")
        settings = Settings(
            engine="vllm",
            adapters=how,
            checkpoint_roots=[run],
            cache=tmp_path,
            service=service.url,
            exit_when_idle=0.3,
        )
        engine = VllmEngine(max_sequences=8)
        parts = Parts("vllm", lambda: engine, None, real_parts(settings).locate, lambda choice: Comparing())
        worker = Worker(settings, parts, shutdown=Shutdown())
        assert worker.run() == 0
        worker.close()
        return taken(service)

    merged, beside = scored("merged"), scored("beside")

    for task, rows in merged.items():
        assert [row.perplexity for row in beside[task]] == pytest.approx([row.perplexity for row in rows], rel=1e-4)
        assert [[one.text for one in row.answers] for row in beside[task]] == [
            [one.text for one in row.answers] for row in rows
        ]
    assert merged["checkpoint-10"] != merged["checkpoint-20"]


@needs_vllm
@pytest.mark.vllm
def test_a_pass_that_lacks_memory_goes_on_with_its_adapter(run: Path, monkeypatch: pytest.MonkeyPatch):
    from premem_worker.engines.vllm.engine import VllmEngine

    engine = VllmEngine(max_sequences=8)
    engine.load(run / "base", dtype="float32")
    of_the_base = answers(engine)
    engine.load(run / "base", dtype="float32", adapter=run / "checkpoint-10")
    undisturbed = answers(engine)
    out_of_memory_after(engine, 3, monkeypatch)

    assert answers(engine) == undisturbed != of_the_base
    assert engine._max_sequences == 4
    engine.close()


@needs_vllm
@pytest.mark.vllm
def test_an_adapter_that_vllm_takes_for_another_is_noticed_each_time(run: Path, monkeypatch: pytest.MonkeyPatch):
    from premem_worker.engines.vllm.engine import VllmEngine

    engine = VllmEngine(max_sequences=8)
    for _ in range(2):
        engine.load(run / "base", dtype="float32", adapter=run / "checkpoint-10")
        read = engine._llm.add_lora

        def another(request: Any, read: Callable[[Any], None] = read) -> None:
            request.lora_path = str(run / "checkpoint-10")
            read(request)

        monkeypatch.setattr(engine._llm, "add_lora", another)
        with pytest.raises(EngineError, match="do not agree"):
            engine.load(run / "base", dtype="float32", adapter=run / "checkpoint-20")
    engine.load(run / "base", dtype="float32", adapter=run / "checkpoint-20")  # in a fresh engine
    engine.close()
