"""The tasks that this worker holds, each from its lease until it is handed in, given back or lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import structlog

from premem.errors import CheckpointError, Interrupted, ServiceError
from premem.payloads.effort import Effort
from premem.payloads.results import weights_of
from premem.records import Example
from premem.wire.tasks import LeasedTask
from premem_worker.checkpoints import fingerprints
from premem_worker.checkpoints.located import Located
from premem_worker.passes.plan import Plan
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


class TaskInHand:
    """A leased task and its heartbeat."""

    def __init__(self, task: LeasedTask, lease: Heartbeat) -> None:
        self.task = task
        self.lease = lease
        self.log = log.bind(
            task=task.id, attempt=task.attempt, checkpoint=task.checkpoint.name or task.checkpoint.path, kind=task.kind
        )
        self.began: float | None = None
        """When its turn came, by the monotonic clock."""
        self.effort: Effort | None = None
        """What its pass took; None as long as there was none."""
        self.plan: Plan | None = None
        """What the engine was asked for it before its turn came."""
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


def fetch(
    task: LeasedTask,
    connection: Connection,
    locate: Callable[[str, str | None], Located],
    *,
    stopped: Callable[[], bool],
) -> Fetched:
    """What the task needs, out of the service and with its checkpoint made local by `locate` (see Parts).

    Raises CheckpointError where its checkpoint cannot be used or is not of the job's run, ServiceError, NotFound,
    Interrupted soon after `stopped` turns true.
    """
    began = time.monotonic()
    column = task.perturbation.question_column if task.perturbation else None
    examples = connection.rows(task.dataset, start=task.start, stop=task.stop, stopped=stopped, question_column=column)
    source = connection.source(task.id, stopped=stopped) if task.regrade else None
    partial = connection.partial(task.id, stopped=stopped) if task.partial else None
    located = None if task.regrade else _located(task, partial, locate)
    return Fetched(examples, source, partial, located, seconds=time.monotonic() - began)


def _located(task: LeasedTask, partial: bytes | None, locate: Callable[[str, str | None], Located]) -> Located:
    path = task.checkpoint.path
    located = locate(path, task.base)
    if task.template.chat:
        located = located.chatting(task.checkpoint)
    if task.tokenizer is not None and located.tokenizer != task.tokenizer:
        what = "tokenizer or chat template" if task.template.chat else "tokenizer"
        raise CheckpointError(
            f"checkpoint {task.checkpoint.name!r} ({path}) has another {what} than the checkpoints before it: "
            "the checkpoints of one job must come from one run"
        )
    for known in (task.weights, None if partial is None else weights_of(partial)):
        fingerprints.check_same(task.checkpoint.name, known, located.weights)
    return located


class TasksInHand:
    """All of them. Safe to use from several threads."""

    def __init__(self, beats: Connection) -> None:
        """`beats`: the connection of heartbeats, and of giving back in a hurry."""
        self._beats = beats
        self._lock = threading.Lock()
        self._in_hand: dict[tuple[str, int], TaskInHand] = {}

    def take(self, task: LeasedTask, *, leased_at: float) -> TaskInHand:
        """A task that was just leased; its heartbeat begins. `leased_at`: see Heartbeat."""
        in_hand = TaskInHand(task, Heartbeat(self._beats, task, leased_at=leased_at))
        with self._lock:
            self._in_hand[task.id, task.attempt] = in_hand
        in_hand.lease.start()
        in_hand.log.info("task leased", start=task.start, stop=task.stop)
        return in_hand

    def drop(self, in_hand: TaskInHand) -> None:
        """It is no more this worker's, whoever else's it is."""
        in_hand.drop()
        with self._lock:
            self._in_hand.pop((in_hand.task.id, in_hand.task.attempt), None)

    def give_back(self, in_hand: TaskInHand, connection: Connection) -> None:
        until = time.monotonic() + 2.0
        try:
            connection.release(in_hand.task.id, in_hand.task.attempt, stopped=lambda: time.monotonic() > until)
        except (Interrupted, ServiceError) as error:
            in_hand.log.warning("the task could not be given back; its lease will run out", reason=str(error))
        else:
            in_hand.log.info("task given back")
        self.drop(in_hand)

    def give_back_all(self) -> None:
        """From another thread, when this process is about to be ended."""
        with self._lock:
            every = list(self._in_hand.values())
        for in_hand in every:
            self.give_back(in_hand, self._beats)
