"""The processes in which unbounded graders run: `python -m premem.grading.child FD PARENT`.

The first of them, the forge, loads the grader once and then only forks: a grading process that was killed is replaced
within milliseconds, whatever the grader had to load. The forge alone signals its children, so that a number that the
system has given to another process is never killed.

Over the socket FD come the choice, as a line of JSON, and then commands of 5 bytes: b"f" with a socket attached, to
fork; b"k" and a process id, to kill. Each is answered with a process id.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import signal
import socket
import struct
import sys
from typing import Any, NoReturn

from premem.errors import GraderError
from premem.grading import Grader, Prepared, get_grader
from premem.wire.bodies import GraderChoice

COMMAND = struct.Struct("<cI")
PROCESS = struct.Struct("<I")
_PR_SET_PDEATHSIG = 1


def main() -> None:
    forge = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    _die_with(int(sys.argv[2]))
    with forge.makefile("rb") as lines:
        choice: dict[str, Any] = json.loads(lines.readline())
    try:
        grader = get_grader(GraderChoice.model_validate(choice["choice"]))
        if isinstance(grader, Prepared):
            grader.prepare()
    except GraderError as error:
        _reply(forge, {"error": str(error)})
        return
    except Exception as error:
        _reply(forge, {"error": f"grader {choice['choice']['name']!r} cannot start: {error!r}"})
        return
    gc.freeze()  # a collection in a child would copy every page
    _reply(forge, {})
    children: set[int] = set()
    try:
        _serve(forge, grader, children, memory_bytes=choice["memory_bytes"])
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def _serve(forge: socket.socket, grader: Grader, children: set[int], *, memory_bytes: int) -> None:
    """Until the parent closes its end."""
    while True:
        command, descriptors, _, _ = socket.recv_fds(forge, COMMAND.size, 1)
        if not command:
            return
        what, process = COMMAND.unpack(command)
        if what == b"f":
            process = _fork(forge, descriptors[0], grader, memory_bytes)
            children.add(process)
        elif process in children:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            children.remove(process)
        for child in list(children):
            if os.waitpid(child, os.WNOHANG)[0]:
                children.remove(child)
        forge.sendall(PROCESS.pack(process))


def _fork(forge: socket.socket, descriptor: int, grader: Grader, memory_bytes: int) -> int:
    parent = os.getpid()
    process = os.fork()
    if process == 0:
        forge.close()
        _die_with(parent)
        _grade_all(socket.socket(fileno=descriptor), grader, memory_bytes)
    os.close(descriptor)
    return process


def _grade_all(channel: socket.socket, grader: Grader, memory_bytes: int) -> NoReturn:
    """Answer a line of JSON with a line of JSON, until the parent closes its end."""
    _limit_memory(memory_bytes)
    status = 1
    try:
        with channel.makefile("rb") as lines:
            loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for line in lines:
                reply = _grade(grader, **json.loads(line))
                # What one answer has taken may never come back to the system.
                grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - loaded) * 1024
                reply["last"] = grown > memory_bytes // 2
                _reply(channel, reply)
                if reply["last"]:
                    break
        status = 0
    finally:
        os._exit(status)  # whatever the forge would do at its end is not for us to do


def _grade(grader: Grader, reference: str, answer: str) -> dict[str, Any]:
    try:
        grade = grader.grade(reference, answer)
        return {"verdict": grade.verdict, "extracted": grade.extracted}
    except (MemoryError, RecursionError) as error:
        return {"exhausted": type(error).__name__}
    except Exception as error:
        return {"error": f"grader {grader.name!r} failed on an answer: {error!r:.500}"}


def _reply(channel: socket.socket, reply: dict[str, Any]) -> None:
    channel.sendall(json.dumps(reply).encode() + b"\n")


def _limit_memory(memory_bytes: int) -> None:
    """`memory_bytes` beyond what is taken now."""
    try:
        with open("/proc/self/statm") as statm:
            taken = int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        return  # without /proc, such as on macOS, where the limit is not enforced either
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = taken + memory_bytes
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _die_with(parent: int) -> None:
    """On Linux, be killed when the parent goes, even where it is killed and even in the middle of an answer."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main()
