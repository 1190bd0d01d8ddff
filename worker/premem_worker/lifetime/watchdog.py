"""Notice an engine that has stopped answering, and do not wait for it forever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from premem.errors import EngineError, Interrupted

GRACE_SECONDS = 10.0
"""Most that whoever waits for an engine has to notice that its processes were killed."""

log = structlog.get_logger(__name__)


class Watch:
    """How long nothing was heard of an engine, in the time that this process was running itself."""

    def __init__(self, what: str, seconds: float) -> None:
        self.what = what
        self.seconds = seconds
        self.silent = False
        """Whether it was found to be."""
        self._unheard = 0.0
        self._resting = False

    def alive(self) -> None:
        """A sign of life."""
        self._resting = False
        self._unheard = 0.0

    def rest(self) -> None:
        """Nothing is asked of the engine until it shows the next sign of life."""
        self._resting = True

    def pass_time(self, seconds: float) -> bool:
        """Whether that makes it fall silent."""
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
    """Watch over what is done with an engine in here.

    An engine that falls silent has its processes killed by `kill`, and what that raises in here is raised as
    EngineError. Where nothing is raised within moments, since the engine computes in this process or whoever
    waits does not notice, there is no way to end it: `last_resort` is called with the reason and has to end the
    process. Both are called from another thread.
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
