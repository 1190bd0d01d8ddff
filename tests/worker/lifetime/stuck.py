"""A worker as a process of its own, whose engine starts a process and hangs: in its first load, in its first pass, or
since that process does not answer."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from premem_worker.__main__ import main
from premem_worker.checkpoints.located import Located
from premem_worker.parts import Parts
from premem_worker.settings import Settings
from tests.fakes import Comparing, FakeEngine
from tests.worker.engines.resting import Outside, Stuck

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
