"""A worker as a process of its own, whose engine starts a process and hangs: in its first load, in its first pass, or
since that process does not answer."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from premem.errors import EngineError
from premem.wire import Sampling
from tests.fakes import Comparing, FakeEngine
from worker.__main__ import main
from worker.engines import Sampled, SampleRequest, Scored, ScoreRequest
from worker.engines.feed import Feed
from worker.parts import Located, Parts
from worker.settings import Settings


class Stuck(FakeEngine):
    """Hangs where nothing but the end of its process helps."""

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

    def run(
        self,
        requests: Feed | Sequence[ScoreRequest | SampleRequest],
        *,
        sampling: Sampling,
        stopped: Callable[[], bool],
    ) -> Iterator[Scored | Sampled]:
        outcomes = super().run(requests, sampling=sampling, stopped=stopped)
        yield next(outcomes)
        if not self.loading:
            time.sleep(self.seconds)
        yield from outcomes


class Outside(FakeEngine):
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

    def run(
        self,
        requests: Feed | Sequence[ScoreRequest | SampleRequest],
        *,
        sampling: Sampling,
        stopped: Callable[[], bool],
    ) -> Iterator[Scored | Sampled]:
        assert self.core is not None
        assert self.core.stdin is not None
        assert self.core.stdout is not None
        for outcome in super().run(requests, sampling=sampling, stopped=stopped):
            self.core.stdin.write(b"step\n")
            if not self.core.stdout.readline():
                raise EngineError("the core is dead")
            yield outcome

    def close(self) -> None:
        self.kill()
        super().close()

    def kill(self) -> None:
        if self.core is not None:
            self.core.kill()
            self.core.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--stuck-seconds", type=float, default=600.0)
    parser.add_argument("--hangs", choices=("load", "run", "outside"), default="load")
    own, arguments = parser.parse_known_args()

    def make_engine() -> FakeEngine:
        if own.hangs == "outside":
            return Outside()
        return Stuck(own.stuck_seconds, loading=own.hangs == "load")

    def parts(settings: Settings) -> Parts:
        return Parts(
            "fake",
            make_engine=make_engine,
            make_embedder=None,
            locate=lambda path, base: Located(Path(path), "usual"),
            make_graders=lambda choice: Comparing(),
        )

    sys.exit(main(arguments, parts=parts))
