"""A watchdog that notices when an engine has stopped answering."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from premem.errors import EngineError, Interrupted

GRACE_SECONDS = 10.0
"""Seconds within which whoever waits for an engine must notice that its processes were killed."""

log = structlog.get_logger(__name__)


class Watch:
    """How long an engine has shown no sign of life, not counting time in which this process was frozen."""

    def __init__(self, what: str, seconds: float) -> None:
        self.what = what
        self.seconds = seconds
        self.silent = False
        """Whether it was found to be."""
        self._unheard = 0.0
        self._resting = False

    def alive(self) -> None:
        """Note a sign of life."""
        self._resting = False
        self._unheard = 0.0

    def rest(self) -> None:
        """Pause the watch until the next sign of life, because the engine has nothing to do."""
        self._resting = True

    def pass_time(self, seconds: float) -> bool:
        """Let time pass. Returns whether the engine counts as silent now."""
        if self._resting:
            return False
        self._unheard += seconds
        self.silent = self.silent or self._unheard >= self.seconds
        return self.silent

    @property
    def reason(self) -> str:
        return (
            f"the engine gave no sign of life for {self.seconds:g} seconds {self.what}, and was ended; "
            "where it is only slow, set --engine-seconds or --load-seconds higher"
        )


@contextmanager
def watched(
    what: str,
    *,
    seconds: float,
    kill: Callable[[], None],
    last_resort: Callable[[str], None],
) -> Iterator[Watch]:
    """Watch what is done with an engine in this block.

    If the engine falls silent, `kill` ends its processes, and what that raises in the block is raised as EngineError.
    If nothing is raised within moments, because the engine computes in this process or whoever waits does not notice,
    it cannot be ended: `last_resort` is called with the reason and has to end the process. Both are called from
    another thread.
    """
    watch, over = Watch(what, seconds), threading.Event()

    def look() -> None:
        # Time in which this process was frozen does not count: a look that comes late counts as two.
        every = min(1.0, seconds / 10)
        before = time.monotonic()
        while not over.wait(every):
            now = time.monotonic()
            if watch.pass_time(min(now - before, 2 * every)):
                break
            before = now
        else:
            return
        log.error("the engine is killed", reason=watch.reason)
        try:
            kill()
        finally:
            if not over.wait(min(GRACE_SECONDS, seconds)):
                last_resort(watch.reason)

    threading.Thread(target=look, name="watchdog", daemon=True).start()
    try:
        yield watch
    except Interrupted:
        raise
    except Exception as error:
        if watch.silent:
            raise EngineError(watch.reason) from error
        raise
    finally:
        over.set()
