"""A worker as a process of its own, whose engine starts a process and then hangs in its first load."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from tests.fakes import Comparing, FakeEngine
from worker.__main__ import main
from worker.parts import Located, Parts
from worker.settings import Settings


class Stuck(FakeEngine):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def load(self, checkpoint: Path, *, dtype: str | None) -> None:
        if self.checkpoint is None:
            print(subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL).pid, flush=True)
            time.sleep(self.seconds)
        super().load(checkpoint, dtype=dtype)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--stuck-seconds", type=float, default=600.0)
    own, arguments = parser.parse_known_args()

    def parts(settings: Settings) -> Parts:
        return Parts(
            "fake",
            make_engine=lambda: Stuck(own.stuck_seconds),
            make_embedder=None,
            locate=lambda path: Located(Path(path), "usual"),
            make_graders=lambda choice: Comparing(),
        )

    sys.exit(main(arguments, parts=parts))
