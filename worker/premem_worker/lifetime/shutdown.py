"""The wish to end, heard within moments even while the main thread is deep inside a model load."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable

import structlog

SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger(__name__)


class Shutdown:
    """Set by SIGTERM, by SIGINT, or by `request`."""

    def __init__(self) -> None:
        self._requested = threading.Event()

    def request(self) -> None:
        self._requested.set()

    def requested(self) -> bool:
        return self._requested.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep, but not beyond the moment of being asked to end. True: asked."""
        return self._requested.wait(max(0.0, seconds))

    def listen(self, *, seconds: float, last_words: Callable[[], None]) -> None:
        """Hear signals from now on. Call it in the main thread.

        A process that has not ended by itself `seconds` after the first signal, or at the second one, says its
        `last_words` (2 seconds at most) and is ended with status 0.
        """
        # Python runs handlers between two instructions of the main thread, which may be minutes away; the byte in
        # this socket is written at once, by C.
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=_stop_listening)
        threading.Thread(
            target=self._watch, args=(ours, theirs, seconds, last_words), name="shutdown", daemon=True
        ).start()

    def _watch(
        self, ours: socket.socket, theirs: socket.socket, seconds: float, last_words: Callable[[], None]
    ) -> None:
        # `theirs` is only held, for the signals.
        _hear(ours)
        log.info("asked to end", within_seconds=seconds)
        self.request()
        ours.settimeout(seconds)
        try:
            _hear(ours)
        except TimeoutError:
            log.warning("still busy, ending now")
        speaker = threading.Thread(target=last_words, daemon=True)
        speaker.start()
        speaker.join(2.0)
        os._exit(0)


def _hear(ours: socket.socket) -> None:
    while not set(ours.recv(1)) & set(SIGNALS):
        pass  # a signal of somebody else's


def _stop_listening() -> None:
    """In a forked child, whose signals are not the worker's."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
