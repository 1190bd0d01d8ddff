"""The tasks that this worker holds, each from its lease until it is handed in, given back or lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import structlog

from premem.errors import Interrupted, ServiceError
from premem.payloads.effort import Effort
from premem.records import Example
from premem.wire.tasks import LeasedTask
from premem_worker.parts import Located
from premem_worker.tasks.connection import Connection
from premem_worker.tasks.heartbeat import Heartbeat

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a task needs from elsewhere before it can begin."""

    examples: list[Example]
    source: bytes | None
    """The result that it grades anew."""
    partial: bytes | None
    """What an attempt before left behind."""
    located: Located | None
    """None where no model is needed."""
    seconds: float


class Held:
    """A leased task and its heartbeat."""

    def __init__(self, task: LeasedTask, lease: Heartbeat) -> None:
        self.task = task
        self.lease = lease
        self.told = log.bind(
            task=task.id, attempt=task.attempt, checkpoint=task.checkpoint.name or task.checkpoint.path, kind=task.kind
        )
        self.began: float | None = None
        """When its turn came, by the monotonic clock."""
        self.effort: Effort | None = None
        """What its pass took; None as long as there was none."""
        self._dropped = False
        self._fetched: Future[Fetched] = Future()

    def stopped(self) -> bool:
        """Whether it is this worker's no more."""
        return self._dropped or self.lease.stopped()

    def drop(self) -> None:
        self._dropped = True
        self.lease.leave()

    def fetch(self, how: Callable[[LeasedTask], Fetched]) -> None:
        """Fetch what it needs, in this thread. Whatever goes wrong is raised by `fetched`."""
        try:
            self._fetched.set_result(how(self.task))
        except BaseException as error:
            self._fetched.set_exception(error)
            if not isinstance(error, Exception):
                raise

    @property
    def ready(self) -> Fetched | None:
        """What was fetched, where all of it is there."""
        done = self._fetched.done() and self._fetched.exception() is None
        return self._fetched.result() if done else None

    def fetched(self, stopped: Callable[[], bool]) -> Fetched:
        """What was fetched, once it is. Raises what went wrong there, and Interrupted."""
        while not self._fetched.done():
            if stopped():
                raise Interrupted("stopped before the task's rows were there")
            try:
                return self._fetched.result(timeout=0.05)
            except TimeoutError:
                pass  # of this look, or of the fetching itself, which is raised below
        return self._fetched.result()


class Holding:
    """All of them. Safe to use from several threads."""

    def __init__(self, beats: Connection) -> None:
        """`beats`: the connection of heartbeats, and of giving back in a hurry."""
        self._beats = beats
        self._lock = threading.Lock()
        self._held: dict[tuple[str, int], Held] = {}

    def take(self, task: LeasedTask, *, leased_at: float) -> Held:
        """A task that was just leased; its heartbeat begins. `leased_at`: see Heartbeat."""
        held = Held(task, Heartbeat(self._beats, task, leased_at=leased_at))
        with self._lock:
            self._held[task.id, task.attempt] = held
        held.lease.start()
        held.told.info("task leased", start=task.start, stop=task.stop)
        return held

    def drop(self, held: Held) -> None:
        """It is no more this worker's, whoever else's it is."""
        held.drop()
        with self._lock:
            self._held.pop((held.task.id, held.task.attempt), None)

    def give_back(self, held: Held, connection: Connection) -> None:
        until = time.monotonic() + 2.0
        try:
            connection.release(held.task.id, held.task.attempt, stopped=lambda: time.monotonic() > until)
        except (Interrupted, ServiceError) as error:
            held.told.warning("the task could not be given back; its lease will run out", reason=str(error))
        else:
            held.told.info("task given back")
        self.drop(held)

    def give_back_all(self) -> None:
        """From another thread, when this process is about to be ended."""
        with self._lock:
            every = list(self._held.values())
        for held in every:
            self.give_back(held, self._beats)
