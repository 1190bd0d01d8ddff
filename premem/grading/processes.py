"""The parent's side of premem.grading.child: a forge, and the grading processes that it makes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from premem.errors import GraderError, Interrupted
from premem.grading.child import COMMAND, PROCESS
from premem.wire.bodies import GraderChoice

START_SECONDS = 120.0
"""Within which a grader must have loaded."""
_REPLY_SECONDS = 60.0


class OutOfTime(Exception):
    """The process has not answered within its time."""


class Died(Exception):
    """The process is gone."""


class GradingProcess:
    """One process, and the one who asks it."""

    def __init__(self, process: int, channel: socket.socket) -> None:
        self.process = process
        self._channel = channel

    def ask(self, reference: str, answer: str, *, seconds: float) -> dict[str, Any]:
        """What the process says of the answer. Raises OutOfTime, or Died; it is of no use after either."""
        deadline = time.monotonic() + seconds
        reply = bytearray()
        try:
            self._channel.settimeout(seconds)
            self._channel.sendall(json.dumps({"reference": reference, "answer": answer}).encode() + b"\n")
            while not reply.endswith(b"\n"):
                self._channel.settimeout(max(1e-3, deadline - time.monotonic()))
                received = self._channel.recv(1 << 16)
                if not received:
                    raise Died
                reply += received
        except TimeoutError:
            raise OutOfTime from None
        except OSError as error:
            raise Died from error
        said: dict[str, Any] = json.loads(reply)
        return said

    def close(self) -> None:
        """The process ends, unless it is in the middle of an answer."""
        self._channel.close()


class Forge:
    """Makes grading processes, and kills them. Safe to share between threads.

    A thread that calls `fork` must live as long as the forge: on Linux, the death of the thread that started a process
    counts as the death of its parent.
    """

    def __init__(self, choice: GraderChoice, *, memory_bytes: int) -> None:
        self._first_line = {"choice": choice.model_dump(mode="json"), "memory_bytes": memory_bytes}
        self._lock = threading.Lock()
        self._closed = False
        self._loading: subprocess.Popen[bytes] | None = None
        self._running: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    def fork(self) -> GradingProcess:
        """Raises GraderError where the grader cannot be loaded, Interrupted once the forge is closed."""
        with self._lock:
            try:
                return self._forked()
            except OSError:
                self._abandon()  # it has died in between, or was killed: a new one
            try:
                return self._forked()
            except OSError as error:
                self._abandon()
                raise GraderError(f"the grading processes cannot be started: {error}") from error

    def kill(self, process: GradingProcess) -> None:
        process.close()
        with self._lock:
            if self._running is None:
                return  # its children went with it
            _, forge = self._running
            try:
                forge.sendall(COMMAND.pack(b"k", process.process))
                _process(forge)
            except OSError:
                self._abandon()

    def close(self) -> None:
        """End the forge and all of its children, whatever they are doing."""
        self._closed = True
        if (loading := self._loading) is not None:
            loading.kill()  # whoever waits for it holds the lock
        with self._lock:
            self._abandon()

    def _forked(self) -> GradingProcess:
        forge = self._started()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(forge, [COMMAND.pack(b"f", 0)], [theirs.fileno()])
                return GradingProcess(_process(forge), ours)
            except OSError:
                ours.close()
                raise

    def _started(self) -> socket.socket:
        if self._closed:
            raise Interrupted("grading was stopped")
        if self._running is not None:
            popen, forge = self._running
            if popen.poll() is None:
                return forge
            self._abandon()
        ours, theirs = socket.socketpair()
        with theirs:
            popen = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", "premem.grading.child", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_environment(),
            )
        self._running = popen, ours
        self._loading = popen
        try:
            self._await_ready(popen, ours)
        finally:
            self._loading = None
        ours.settimeout(_REPLY_SECONDS)
        return ours

    def _await_ready(self, popen: subprocess.Popen[bytes], forge: socket.socket) -> None:
        line = b""
        try:
            forge.settimeout(START_SECONDS)
            forge.sendall(json.dumps(self._first_line).encode() + b"\n")
            while not line.endswith(b"\n"):
                received = forge.recv(1 << 16)
                if not received:
                    break
                line += received
        except TimeoutError as error:
            self._abandon()
            raise GraderError(f"the grader did not load within {START_SECONDS:.0f} seconds") from error
        except OSError:
            line = b""  # it is gone
        if not line.endswith(b"\n"):
            self._abandon()
            if self._closed:
                raise Interrupted("grading was stopped")
            if popen.returncode < 0:
                raise ConnectionError(f"signal {-popen.returncode} ended the grader's process while it loaded")
            raise GraderError(f"the grader's process ended while it loaded (exit status {popen.returncode})")
        if "error" in (said := json.loads(line)):
            self._abandon()
            raise GraderError(said["error"])

    def _abandon(self) -> None:
        if self._running is None:
            return
        popen, forge = self._running
        self._running = None
        forge.close()  # it kills its children and ends
        try:
            popen.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


def _process(forge: socket.socket) -> int:
    reply = forge.recv(PROCESS.size, socket.MSG_WAITALL)
    if len(reply) < PROCESS.size:
        raise ConnectionError("the forge of the grading processes has ended")
    process: int = PROCESS.unpack(reply)[0]
    return process


def _environment() -> dict[str, str]:
    """Ours, without accelerators, and with one thread each: there are many of them."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(folder or os.getcwd() for folder in sys.path),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
