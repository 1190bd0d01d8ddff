"""The worker's own process group: whatever it starts ends with it, even where it is killed with -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

_GUARD = """
import os, signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
os.read(0, 1)
time.sleep(1)  # for those that clean up behind themselves
os.killpg(os.getpgrp(), signal.SIGKILL)
"""

_held: list[tuple[int, subprocess.Popen[bytes]]] = []
"""The end of the guard's pipe that says that this process lives, and the guard."""


def lead_group() -> bool:
    """Make this process the leader of a process group. False: it shares the terminal's, where Ctrl-C must reach it."""
    if os.getpgrp() == os.getpid():
        return True
    if _in_foreground():
        return False
    os.setpgid(0, 0)
    return True


def guard_group() -> None:
    """Have every process of this group killed once this one is gone, however it went.

    A small process waits for the end of a pipe whose other end only this process holds, and which the kernel closes
    with it. Call it as the leader of the group, before anything else is started.
    """
    theirs, ours = os.pipe()
    try:
        guard = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", "-c", _GUARD],
            stdin=theirs,
            stdout=subprocess.DEVNULL,  # or whoever reads our output would wait for the guard's end too
            stderr=subprocess.DEVNULL,
        )
    finally:
        os.close(theirs)
    _held.append((ours, guard))
    os.register_at_fork(after_in_child=_forget)


def end_now(status: int) -> NoReturn:
    """End this process with that status, and everything that it has started, whatever its threads are doing."""
    spared = {guard.pid for _, guard in _held}  # it ends those that come up meanwhile
    for process in descendants(os.getpid()):
        if process not in spared:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def descendants(process: int) -> list[int]:
    """Children, their children and so on, where the system tells (Linux)."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it is gone
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = [process]
    for one in found:
        found += children.get(one, [])
    return found[1:]


def _forget() -> None:
    """In a forked child, which would otherwise hold the pipe open beyond our death."""
    while _held:
        pipe, guard = _held.pop()
        os.close(pipe)
        guard.returncode = 0  # not this process's to wait for


def _in_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
