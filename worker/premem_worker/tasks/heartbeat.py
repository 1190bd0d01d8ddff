"""Keep a lease alive from a thread of its own, and learn there when it is gone."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Literal, Self

import structlog

from premem.errors import Conflict, NotFound, ServiceError
from premem.wire.tasks import LeasedTask
from premem_worker.tasks.connection import Connection, jittered

Lost = Literal["stale", "cancelled", "unheard"]
"""Why a lease ended early: another attempt holds the task, its job was cancelled, or no heartbeat got through."""

log = structlog.get_logger(__name__)


class Heartbeat:
    """Beats three times per lease from its start until it is left. `stopped` turns true as soon as the lease is known to be gone.

    Start it before anything heavy is imported or loaded. It runs on a connection of its own, so that no upload
    keeps it waiting. A process that was frozen beats as soon as it wakes, and learns then that its attempt is stale.
    """

    def __init__(self, connection: Connection, task: LeasedTask, *, leased_at: float) -> None:
        """`leased_at`: the monotonic clock when the lease was answered."""
        self._connection = connection
        self._task = task
        # Counted from the answer, the lease is surely over when this has passed: the service began counting earlier.
        self._over_at = leased_at + task.lease_seconds
        self._lost: Lost | None = None
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat of {task.id}", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def start(self) -> None:
        self._thread.start()

    def leave(self) -> None:
        # Not joined: a beat that hangs in the network must not delay the next task, and it can do no harm.
        self._left.set()

    @property
    def lost(self) -> Lost | None:
        return self._lost

    def stopped(self) -> bool:
        return self._lost is not None

    def _run(self) -> None:
        try:
            self._lost = self._beat()
        except BaseException:
            self._lost = "unheard"  # whatever befell this thread (a log on a full disk), the lease runs out
            raise

    def _beat(self) -> Lost | None:
        """Returns why the lease is gone; None when it was left."""
        interval = self._task.lease_seconds / 3
        pause = interval
        while not self._left.wait(pause):
            try:
                reply = self._connection.heartbeat(
                    self._task.id, self._task.attempt, answer_seconds=min(10.0, max(interval, 0.5))
                )
            except (Conflict, NotFound):
                return "stale"
            except ServiceError as error:
                if time.monotonic() >= self._over_at:
                    return "unheard"
                if pause == interval:
                    log.warning("no heartbeat got through, trying again", task=self._task.id, reason=str(error))
                pause = jittered(min(interval / 4, 2.0))
            else:
                if reply.cancelled:
                    return "cancelled"
                self._over_at = time.monotonic() + self._task.lease_seconds
                pause = interval
        return None
