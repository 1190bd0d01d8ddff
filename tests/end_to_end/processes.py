"""The service and its workers as real processes, and a look into the queue behind their backs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import httpx
from sqlalchemy import Engine, select

from premem_service.storage.tables import tasks

HOUSE = Path(__file__).parents[2]
Found = TypeVar("Found")


def await_that(found: Callable[[], Found | None], *, seconds: float, what: str) -> Found:
    """The first answer that is true, or a failure that says what was waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s for {what}")


class Process:
    """A child process with its output in a file."""

    def __init__(self, arguments: list[str], *, log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=HOUSE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            )

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, *, seconds: float) -> int:
        return self.process.wait(timeout=seconds)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Service(Process):
    """`python -m premem_service` on a free port."""

    def __init__(self, folder: Path, *, database_url: str, lease_seconds: float = 3.0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        environment = {
            "PREMEM_DATABASE_URL": database_url,
            "PREMEM_LEASE_SECONDS": str(lease_seconds),
        }
        arguments = ["-m", "premem_service", "--data-dir", str(folder / "data"), "--port", "0"]
        super().__init__(arguments, log=folder / "service.log", environment=environment)
        self.url = await_that(self._listening, seconds=60, what=f"the service; its log is {self.log}")

    def _listening(self) -> str | None:
        assert self.process.poll() is None, self.log.read_text()
        for line in self.log.read_text().splitlines():
            if line.startswith("premem listens on "):
                url = line.split()[3]
                return url if httpx.get(f"{url}/readyz").status_code == 200 else None
        return None


class Worker(Process):
    """`python -m premem_worker`."""

    def __init__(self, folder: Path, *, name: str, service: Service, checkpoints: Path, engine: str) -> None:
        self.name = name
        arguments = ["-m", "premem_worker", "--service", service.url, "--name", name, "--engine", engine]
        arguments += ["--checkpoint-root", str(checkpoints)]
        super().__init__(arguments, log=folder / f"{name}.log", environment={})

    def leased(self, database: Engine) -> str | None:
        """Id of the task that this worker holds."""
        with database.connect() as connection:
            held = select(tasks.c.id).where(tasks.c.state == "leased", tasks.c.worker == self.name)
            return connection.scalar(held)
