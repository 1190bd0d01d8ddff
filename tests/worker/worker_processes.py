"""Real worker processes, those that are stuck too."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.fakes import FakeService

REPOSITORY = Path(__file__).parents[2]


def start_stuck_worker(service: FakeService, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    """A worker whose engine hangs while it loads, and the process that its engine has started."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.worker.lifetime.stuck", "--service", service.url, *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    assert worker.stdout is not None
    return worker, int(worker.stdout.readline())


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone_within(process: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not is_running(process):
            return True
        time.sleep(0.02)
    return False


def run_worker(service: FakeService, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "premem_worker", "--service", service.url, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
