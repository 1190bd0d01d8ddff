"""Keep what is done of a pass with the service, so that whoever gets the task next goes on from there."""

from __future__ import annotations

import threading
import time

import structlog

from premem.errors import Interrupted, ServiceError
from premem_worker.tasks.connection import Connection
from premem_worker.tasks.in_hand import Held

SEND_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Keeper:
    """Sends the partial results of one task, each from a thread of its own; what cannot be sent is no loss yet."""

    def __init__(self, connection: Connection, held: Held) -> None:
        self._connection = connection
        self._held = held
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def keep(self, content: bytes) -> None:
        """Does not wait, unless the one before is still on its way."""
        self.finish()
        self._thread = threading.Thread(target=self._send, args=(content,), name="keeping", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait until the last one is sent or given up: afterwards the task may be given back."""
        if self._thread is not None:
            self._thread.join(SEND_SECONDS + 1.0)

    def _send(self, content: bytes) -> None:
        task, until = self._held.task, time.monotonic() + SEND_SECONDS
        try:
            self._connection.keep(
                task.id, task.attempt, content, stopped=lambda: self._held.stopped() or time.monotonic() > until
            )
        except (Interrupted, ServiceError) as error:
            log.info("a partial result was not kept", task=task.id, reason=str(error))
