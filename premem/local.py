"""A private service with its workers, on this machine and for as long as somebody needs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx

from premem.errors import InputError, ServiceError
from premem.extras import check_installed
from premem.wire.tasks import ENGINE_HANGS

READY_SECONDS = 90.0
STOP_SECONDS = 12.0
"""A worker gives its task back within 10."""
TAIL_LINES = 15
RESTARTS = 3
"""Of one worker for that reason."""
LISTENING = "premem listens on "
"""How the line starts in which the service tells its URL."""
WORKER_SETTINGS_KEPT = frozenset(
    f"PREMEM_WORKER_{name}" for name in ("ENGINE", "GRADERS", "LOG_LEVEL", "CACHE", "CACHE_BYTES")
)
"""All other settings of the environment speak of services elsewhere."""

# Linux ends the child where its parent dies without a chance to clean up (kill -9, out of memory).
_ORPHANS_END = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


class LocalService:
    """`python -m premem_service` on a free loopback port, with workers of its own, all ended by `stop`.

    `folder` keeps the database, the data sets and the logs (`service.log`, `worker-1.log`, …); a later
    LocalService on the same folder finds everything that this one knew. `checkpoint_roots` are the only folders that
    the workers load checkpoints from. `engine` is auto, vllm or transformers; None leaves it to PREMEM_WORKER_ENGINE.
    `environment` is added to that of the children.

    Start it in a thread that lives as long as the service does: Linux ends the children with that thread.
    Raises InputError where another process holds the folder, MissingExtra where the service or the worker is not
    installed, ServiceError with the end of its log where a process does not come up.
    """

    def __init__(
        self,
        folder: Path,
        *,
        checkpoint_roots: Sequence[Path],
        workers: int = 1,
        engine: str | None = None,
        hub: bool = False,
        port: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.url = ""
        """Where the service listens, once it does."""
        self._environment = dict(environment or {})
        self._children: list[_Child] = []
        if workers:
            check_installed("service", "worker")
        else:
            check_installed("service")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.folder)
        try:
            self._start_service(port)
            for number in range(1, workers + 1):
                self._start_worker(number, checkpoint_roots=checkpoint_roots, engine=engine, hub=hub)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def check(self) -> None:
        """Raises ServiceError, with the end of its log, where the service or a worker has ended.

        A worker whose engine hung, and which ended with it, is started again.
        """
        for child in self._children:
            if child.process.poll() == ENGINE_HANGS and child.restarts < RESTARTS:
                child.start_again()
            else:
                child.check()

    def stop(self) -> None:
        """End every process that was started, the workers first, so that they can give their tasks back."""
        children, self._children = self._children, []
        workers, services = children[1:], children[:1]
        try:
            for together in (workers, services):
                for child in together:
                    child.terminate()
                deadline = time.monotonic() + STOP_SECONDS
                for child in together:
                    child.wait(deadline)
        finally:
            for child in children:
                child.kill()
            self._lock.close()

    def _start_service(self, port: int) -> None:
        arguments = ["-m", "premem_service", "--host", "127.0.0.1", "--port", str(port), "--data-dir", str(self.folder)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREMEM_")}
        service = self._start("service", arguments, environment)
        deadline = time.monotonic() + READY_SECONDS
        while not self.url:
            service.check()
            if time.monotonic() > deadline:
                raise ServiceError(f"the private service was not ready after {READY_SECONDS:.0f} s; {service.last()}")
            time.sleep(0.05)
            self.url = service.ready_at()

    def _start_worker(self, number: int, *, checkpoint_roots: Sequence[Path], engine: str | None, hub: bool) -> None:
        arguments = ["-m", "premem_worker", "--service", self.url]
        for root in checkpoint_roots:
            arguments += ["--checkpoint-root", str(root)]
        arguments += ["--engine", engine] if engine else []
        arguments += ["--hub"] if hub else []
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PREMEM_") or name in WORKER_SETTINGS_KEPT
        }
        self._start(f"worker-{number}", arguments, environment)

    def _start(self, name: str, arguments: list[str], environment: dict[str, str]) -> _Child:
        child = _Child(name, arguments, log=self.folder / f"{name}.log", environment=environment | self._environment)
        self._children.append(child)
        return child


class _Child:
    """A process with its output in a file, in a process group of its own: Ctrl-C reaches it through us only."""

    def __init__(self, name: str, arguments: list[str], *, log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        # -P: a folder named service or worker where the user stands is not ours.
        command = [sys.executable, "-P", *arguments]
        if sys.platform == "linux":
            command = [sys.executable, "-c", _ORPHANS_END, str(os.getpid()), *command[1:]]
        self.restarts = 0
        self._command = command
        self._environment = dict(environment)
        log.write_bytes(b"")
        self.process = self._started()

    def start_again(self) -> None:
        """Its output goes on in the same log."""
        self.restarts += 1
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as out:
            return subprocess.Popen(  # noqa: S603
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    def check(self) -> None:
        status = self.process.poll()
        if status is not None:
            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            raise ServiceError(f"{self.name} {how}; {self.last()}")

    def ready_at(self) -> str:
        """Its URL, empty as long as it does not answer there that it is ready."""
        for line in self.log.read_text(errors="replace").splitlines():
            if line.startswith(LISTENING):
                url = line.removeprefix(LISTENING).split()[0]
                try:
                    # Proxies of the environment do not lead to this machine.
                    return url if httpx.get(f"{url}/readyz", trust_env=False, timeout=10).is_success else ""
                except httpx.TransportError:
                    return ""
        return ""

    def last(self) -> str:
        """The end of its log, for an error message."""
        lines = self.log.read_text(errors="replace").splitlines()
        if not lines:
            return f"its log {self.log} is empty"
        return "\n".join([f"its log {self.log} ends:", *(f"  {line}" for line in lines[-TAIL_LINES:])])

    def terminate(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()

    def wait(self, deadline: float) -> None:
        try:
            self.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _lock(folder: Path) -> IO[str]:
    """Held as long as the file is open. Raises InputError where another process holds it."""
    import fcntl  # not on Windows, where there are no private services

    file = (folder / "in-use").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise InputError(f"{folder} is in use by another premem process ({holder}): wait for it or end it") from None
    file.truncate(0)
    file.write(f"pid {os.getpid()}")
    file.flush()
    return file
