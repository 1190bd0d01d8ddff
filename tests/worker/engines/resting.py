"""Stand-ins for an engine that takes its time, hangs, or lacks memory."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from premem.errors import EngineError
from premem.wire.jobs import Sampling
from premem_worker.engines.feed import Feed
from premem_worker.engines.requests import Sampled, SampleRequest, Scored, ScoreRequest
from tests.fakes import FakeEngine

if TYPE_CHECKING:
    from premem_worker.engines.vllm.engine import VllmEngine

Stopped = Callable[[], bool]


class Stepping(FakeEngine):
    """Takes a step before each of its answers. Counts its runs, and those that ended, in whichever way."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = self.ended = 0

    def run(
        self, requests: Feed | Sequence[ScoreRequest | SampleRequest], *, sampling: Sampling, stopped: Stopped
    ) -> Iterator[Scored | Sampled]:
        self.runs += 1
        try:
            for number, outcome in enumerate(super().run(requests, sampling=sampling, stopped=stopped), start=1):
                self.step(number, stopped)
                yield outcome
        finally:
            self.ended += 1

    def step(self, number: int, stopped: Stopped) -> None:
        """Before the `number`-th answer of a run, from 1."""


class Held(Stepping):
    """Answers nothing until it is let go, as if each step of the model took long."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.go = threading.Event()

    def step(self, number: int, stopped: Stopped) -> None:
        self.entered.set()
        while not self.go.wait(0.01) and not stopped():
            pass


class Pausing(Stepping):
    """Stops before its n-th answer, until it is let go."""

    def __init__(self, *, before: int, seconds_each: float = 0.0) -> None:
        super().__init__()
        self.before = before
        self.seconds_each = seconds_each
        self.pausing = threading.Event()
        self.go = threading.Event()

    def step(self, number: int, stopped: Stopped) -> None:
        if number == self.before:
            self.pausing.set()
            while not self.go.wait(0.01) and not stopped():
                pass
        time.sleep(self.seconds_each)


class Stuck(Stepping):
    """Starts a process, and hangs where nothing but the end of its own helps: in its first load, or in a pass."""

    def __init__(self, seconds: float, *, loading: bool) -> None:
        super().__init__()
        self.seconds = seconds
        self.loading = loading

    def load(self, checkpoint: Path, *, dtype: str | None, adapter: Path | None = None) -> None:
        if self.checkpoint is None:
            print(subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL).pid, flush=True)
            if self.loading:
                time.sleep(self.seconds)
        super().load(checkpoint, dtype=dtype, adapter=adapter)

    def step(self, number: int, stopped: Stopped) -> None:
        if number == 2 and not self.loading:
            time.sleep(self.seconds)


class Outside(Stepping):
    """Has each step confirmed by a process of its own, in 50 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.core: subprocess.Popen[bytes] | None = None

    def load(self, checkpoint: Path, *, dtype: str | None, adapter: Path | None = None) -> None:
        if self.core is None:
            core = "import sys, time\nfor line in sys.stdin: time.sleep(0.05); print(line, end='', flush=True)"
            self.core = subprocess.Popen(
                [sys.executable, "-c", core], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
            print(self.core.pid, flush=True)
        super().load(checkpoint, dtype=dtype, adapter=adapter)

    def step(self, number: int, stopped: Stopped) -> None:
        assert self.core is not None
        assert self.core.stdin is not None
        assert self.core.stdout is not None
        self.core.stdin.write(b"step\n")
        if not self.core.stdout.readline():
            raise EngineError("the core is dead")

    def close(self) -> None:
        self.kill()
        super().close()

    def kill(self) -> None:
        if self.core is not None:
            self.core.kill()
            self.core.wait()


def out_of_memory_after(engine: VllmEngine, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch says it on a GPU."""
    step, left = engine._llm.step, iter(range(steps))

    def lacking() -> object:
        if next(left, None) is None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return step()

    monkeypatch.setattr(engine._llm, "step", lacking)
