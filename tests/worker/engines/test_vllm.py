"""What the vLLM engine promises beyond the others: one engine for many checkpoints, and swaps that are looked at."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from premem.errors import EngineError
from premem.wire.jobs import Sampling
from premem_worker.engines.choose import engine_name, make_engine
from premem_worker.engines.loading import is_out_of_memory
from premem_worker.engines.requests import Sampled, SampleRequest, Scored, ScoreRequest
from premem_worker.engines.vllm.engine import VllmEngine, check_close
from premem_worker.engines.vllm.inside import InsideVllm
from tests.checkpoints import make_checkpoint
from tests.worker.engines.resting import out_of_memory_after

needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (1, 2, 3):
        make_checkpoint(folder / f"tied-{seed}", seed=seed)
    shutil.copytree(folder / "tied-1", folder / "tied-1-again")
    return folder


@pytest.fixture(scope="module")
def engine() -> Iterator[VllmEngine]:
    engine = VllmEngine(max_sequences=8)
    yield engine
    engine.close()


@needs_vllm
@pytest.mark.vllm
def test_checkpoints_of_one_run_share_an_engine(engine: VllmEngine, runs: Path) -> None:
    engine.load(runs / "tied-1", dtype=None)
    started = engine._llm
    first = score(engine)

    engine.load(runs / "tied-2", dtype=None)
    second = score(engine)
    engine.load(runs / "tied-1", dtype=None)
    again = score(engine)
    engine.load(runs / "tied-1-again", dtype=None)  # the same weights: an unmoved canary is no alarm here

    assert engine._llm is started
    assert 0.9 * 2**30 < engine.cache_bytes <= 2**30  # VLLM_CPU_KVCACHE_SPACE is 1 GiB here
    assert first == again == score(engine)
    assert first != second


@needs_vllm
@pytest.mark.vllm
def test_more_requests_than_run_side_by_side_are_all_answered(engine: VllmEngine, runs: Path) -> None:
    engine.load(runs / "tied-1", dtype=None)
    scores = [ScoreRequest(row, (1, 5, 6, 7 + row % 9, 8), 2) for row in range(100)]
    samples = [SampleRequest(row, (1, 5, 6), (3 * row, 3 * row + 1, 3 * row + 2)) for row in range(100)]

    results = list(engine.run([*samples, *scores], sampling=Sampling(max_tokens=4), stopped=lambda: False))

    answers = [(result.row, result.sample) for result in results if isinstance(result, Sampled)]
    assert sorted(answers) == [(row, sample) for row in range(100) for sample in range(3)]
    assert sorted(result.row for result in results if isinstance(result, Scored)) == list(range(100))
    assert {type(result) for result in results[:40]} == {Scored, Sampled}  # nobody waits for all of the other kind


@needs_vllm
@pytest.mark.vllm
def test_a_prompt_that_was_scored_is_read_from_the_cache_for_its_answers(engine: VllmEngine, runs: Path) -> None:
    engine.load(runs / "tied-1", dtype=None)
    prompt = (1, *range(5, 74))  # two blocks of 32 tokens, and six tokens more
    asked = [ScoreRequest(0, (*prompt, 80, 81), len(prompt)), SampleRequest(0, prompt, (1, 2, 3))]

    scored, *sampled = engine.run(asked, sampling=Sampling(max_tokens=4), stopped=lambda: False)

    assert (scored.prompt_tokens, scored.cached_tokens) == (72, 0)
    assert [(answer.prompt_tokens, answer.cached_tokens) for answer in sampled] == [(70, 64)] * 3


@needs_vllm
@pytest.mark.vllm
def test_a_swap_that_reads_nothing_is_noticed(engine: VllmEngine, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.load(runs / "tied-2", dtype=None)
    expected, started = score(engine), engine._llm
    engine.load(runs / "tied-1", dtype=None)
    rpc = started.collective_rpc

    monkeypatch.setattr(
        started, "collective_rpc", lambda method, **kw: None if method == "reload_weights" else rpc(method)
    )
    engine.load(runs / "tied-2", dtype=None)

    assert engine._llm is not started
    assert score(engine) == expected


@needs_vllm
@pytest.mark.vllm
def test_an_output_layer_left_behind_by_a_swap_is_noticed(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = VllmEngine(max_sequences=8)
    engine.load(runs / "tied-1", dtype=None)
    monkeypatch.setattr(InsideVllm, "mend_output_layer", lambda self: None)

    with pytest.raises(EngineError, match="do not agree"):
        engine.load(runs / "tied-2", dtype=None)
    monkeypatch.undo()
    engine.load(runs / "tied-2", dtype=None)
    fresh = score(engine)
    engine.load(runs / "tied-3", dtype=None)
    engine.load(runs / "tied-2", dtype=None)
    swapped = score(engine)
    engine.close()

    assert swapped == fresh


@needs_vllm
@pytest.mark.vllm
def test_a_pass_that_lacks_memory_goes_on_in_a_smaller_engine(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = VllmEngine(max_sequences=8)
    engine.load(runs / "tied-1", dtype=None)
    scores = [ScoreRequest(row, (1, 5, 6, 7 + row, 8), 2) for row in range(24)]
    samples = [SampleRequest(row, (1, 5, 6 + row), (3 * row, 3 * row + 1)) for row in range(24)]
    asked = [*scores, *samples]
    undisturbed = list(engine.run(asked, sampling=Sampling(max_tokens=4), stopped=lambda: False))
    out_of_memory_after(engine, 6, monkeypatch)

    disturbed = list(engine.run(asked, sampling=Sampling(max_tokens=4), stopped=lambda: False))

    assert sorted(map(repr, disturbed)) == sorted(map(repr, undisturbed))
    assert engine._max_sequences == 4
    out_of_memory_after(engine, 2, monkeypatch)
    with pytest.raises(EngineError, match="set --max-sequences or --gpu-memory-utilization lower"):
        list(engine.run(asked, sampling=Sampling(max_tokens=4), stopped=lambda: False))
    engine.close()


@needs_vllm
@pytest.mark.vllm
def test_a_start_that_lacks_memory_is_tried_once_more_smaller(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = VllmEngine(max_sequences=8)
    make, tried = engine._make, []

    def lacking(*how: object) -> object:
        tried.append(engine._max_sequences)
        if len(tried) == 1:
            raise ValueError("No available memory for the cache blocks. Try increasing `gpu_memory_utilization`")
        return make(*how)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "_make", lacking)
    engine.load(runs / "tied-1", dtype=None)
    engine.close()

    assert tried == [8, 4]


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"), True),
        (ValueError("Free memory on device (1/80 GiB) is less than desired GPU memory utilization (0.9)"), True),
        (RuntimeError("probability tensor contains inf"), False),
    ],
)
def test_lack_of_memory_is_told_from_other_errors_also_as_their_cause(error: Exception, lacks: bool) -> None:
    outer = EngineError("it failed")
    outer.__cause__ = error

    assert is_out_of_memory(error) is is_out_of_memory(outer) is lacks


def test_log_probabilities_that_differ_or_are_none_are_noticed() -> None:
    check_close(Path("checkpoint"), [-1.0, -2.0], [-1.0005, -2.0], "float32")

    for values, dtype in ([(-1.01, -2.0), "float32"], [(-1.6, -2.0), "bfloat16"], [(math.nan, -2.0), "float32"]):
        with pytest.raises(EngineError, match="do not agree on checkpoint"):
            check_close(Path("checkpoint"), list(values), [-1.0, -2.0], dtype)  # type: ignore[arg-type]


def test_without_vllm_auto_is_transformers_and_vllm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "vllm" else find(name))

    assert engine_name("auto") == "transformers"
    assert make_engine().name == "transformers"
    with pytest.raises(EngineError, match=r"pip install 'premem\[vllm\]'"):
        make_engine("vllm")
    with pytest.raises(EngineError, match="vLLM is not installed"):
        VllmEngine()


@pytest.mark.skipif(sys.platform != "linux", reason="the signal of a parent's death is Linux's")
def test_a_process_of_the_engine_dies_with_a_worker_that_is_killed() -> None:
    child = (
        "import sys, time; from premem_worker.engines.vllm.inside import InsideVllm; InsideVllm().die_with_parent(); "
        "print('ready', flush=True); time.sleep(60)"
    )
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    worker = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, start_new_session=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"ready\n"

    os.kill(worker.pid, signal.SIGKILL)

    assert worker.stdout.read() == b""  # ends once nobody holds the pipe any more: neither worker nor child
    worker.wait()


def score(engine: VllmEngine) -> float:
    request = ScoreRequest(0, (1, 5, 300, 7, 8, 250, 9, 77), 3)
    (scored,) = engine.run([request], sampling=Sampling(), stopped=lambda: False)
    assert isinstance(scored, Scored)
    return scored.log_likelihood
