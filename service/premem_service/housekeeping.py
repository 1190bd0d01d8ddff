"""What nobody asks for and somebody must do: end what is exhausted, plan draws, finalize, collect garbage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from premem_service import finalizing, garbage
from premem_service.http.metrics import Metrics
from premem_service.queue import draws, leases
from premem_service.settings import Settings
from premem_service.storage.db import Database, now
from premem_service.storage.store import Store

COLLECTIONS_PER_AGE = 4.0

log = structlog.get_logger(__name__)


class Rounds:
    """Three threads of one service. Those of several services do not get in each other's way."""

    def __init__(self, database: Database, store: Store, settings: Settings, metrics: Metrics) -> None:
        self._database = database
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._stopped = threading.Event()
        self._woken = threading.Event()
        self._collect_next = time.monotonic()
        self._threads = [
            threading.Thread(target=self._every_round, args=(self.look,), name="rounds", daemon=True),
            threading.Thread(target=self._every_round, args=(self.plan,), name="planning", daemon=True),
            threading.Thread(target=self._every_round, args=(self.finalize,), name="finalizing", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, *, seconds: float = 10.0) -> None:
        """A finalizing that is under way is given back, and another service (or the next start) does it."""
        self._stopped.set()
        self._woken.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def wake(self) -> None:
        """There is a job to finalize now."""
        self._woken.set()

    def look(self) -> None:
        """One round over the queue."""
        with self._database.begin() as connection:
            leases.end_cancelled(connection, at=now(connection))
        with self._database.begin() as connection:
            lost = leases.end_exhausted(connection, max_losses=self._settings.max_losses, at=now(connection))
        if lost:
            self._metrics.lost.inc(lost)
            self.wake()
        if time.monotonic() >= self._collect_next:
            self._collect_next = time.monotonic() + self._settings.garbage_seconds / COLLECTIONS_PER_AGE
            garbage.collect(self._database, self._store, self._settings)

    def plan(self) -> None:
        """Every shard whose next draws are due, where its last result did not see to that."""
        draws.plan_due(self._database, self._store, stopped=self._stopped.is_set)

    def finalize(self) -> None:
        """Every job that waits for it."""
        self._woken.clear()
        while not self._stopped.is_set() and finalizing.finalize_next(
            self._database, self._store, stopped=self._stopped.is_set
        ):
            pass

    def _every_round(self, work: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            try:
                work()
            except Exception:  # a database or a store that is away now may be back in the next round
                log.exception("a round failed", round=work.__name__)
            if work == self.finalize:
                self._woken.wait(self._settings.round_seconds)
            else:
                self._stopped.wait(self._settings.round_seconds)
