"""Save what is done of a pass with the service, so that whoever gets the task next goes on from there."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

import structlog

from premem.errors import Interrupted, ServiceError
from premem.payloads.results import RowResult, encode
from premem_worker.tasks.connection import Connection
from premem_worker.tasks.in_hand import TaskInHand

SEND_SECONDS = 5.0

log = structlog.get_logger(__name__)


class PartialSaver:
    """Sends the partial results of one task, each from a thread of its own; what cannot be sent is no loss yet."""

    def __init__(self, connection: Connection, in_hand: TaskInHand, *, produced_by: Mapping[str, str]) -> None:
        self._connection = connection
        self._in_hand = in_hand
        self._produced_by = produced_by
        self._thread: threading.Thread | None = None

    def __enter__(self) -> PartialSaver:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def save(self, rows: Sequence[RowResult]) -> None:
        """Does not wait, unless those before are still on their way."""
        content = encode(rows, produced_by=self._produced_by)
        self.finish()
        self._thread = threading.Thread(target=self._send, args=(content,), name="partials", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait until the last one is sent or given up: afterwards the task may be given back."""
        if self._thread is not None:
            self._thread.join(SEND_SECONDS + 1.0)

    def _send(self, content: bytes) -> None:
        task, until = self._in_hand.task, time.monotonic() + SEND_SECONDS
        try:
            self._connection.keep(
                task.id, task.attempt, content, stopped=lambda: self._in_hand.stopped() or time.monotonic() > until
            )
        except (Interrupted, ServiceError) as error:
            log.info("a partial result was not saved", task=task.id, reason=str(error))
