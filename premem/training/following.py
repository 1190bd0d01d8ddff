"""Tells a service of the checkpoints of a run that trains, from a thread that the run never waits for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from premem.client.client import Client
from premem.client.replies import PASSING
from premem.errors import Conflict, PrememError, ServiceError, Unreachable
from premem.wire.jobs import ENDED, Checkpoint, Job
from premem.wire.reports import CheckpointReport

MOST_WAITING = 1000
"""No job takes more checkpoints."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0

Begin = Callable[[Client, str], Job]
"""The open job, made under an Idempotency-Key or found."""
Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint that waits to be registered."""

    checkpoint: Checkpoint
    prepare: Callable[[], None]
    """Done first, such as copying it to where workers read."""
    release: Callable[[], None]
    """Called once the job needs it no more."""


class Following:
    """One open job of one training run.

    `append` and `close` only note what is to be said; a daemon thread says it, in order, and again where the service
    is away, for as long as the process lives. It warns once of a service that is away, and once more where the service
    refuses what it is told; after a refusal it says nothing more. No method but `finish` waits, and none raises.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        begin: Begin,
        *,
        warn: Warn,
        look_seconds: float = 15.0,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self.job: str | None = None
        """Its id, once there is one."""
        self._connect = connect
        self._begin = begin
        self._warn = warn
        self._look_seconds = look_seconds
        self._most_waiting = most_waiting
        self._key = uuid4().hex
        self._changed = threading.Condition()
        self._waiting: deque[Saved] = deque()
        self._registered: dict[str, Saved] = {}
        self._news: deque[CheckpointReport] = deque(maxlen=most_waiting)
        self._done = 0
        self._told: set[str] = set()
        self._full = False
        self._closing = False
        self._closed = False
        self._ended = False
        self._away = False
        self._hurried = False
        self._thread = threading.Thread(target=self._run, name="premem", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def append(self, saved: Saved) -> None:
        with self._changed:
            if self._ended:
                return
            if len(self._waiting) < self._most_waiting:
                self._waiting.append(saved)
                self._changed.notify_all()
                return
            full, self._full = self._full, True
        if not full:
            self._warn(f"{self._most_waiting} checkpoints wait to be registered already: later ones are left out")

    def close(self) -> None:
        """No more checkpoints will come."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def news(self) -> CheckpointReport | None:
        """The next checkpoint that was scored since the last time."""
        with self._changed:
            return self._news.popleft() if self._news else None

    def finish(self, seconds: float | None = None, *, only_if_there: bool = False) -> bool:
        """Wait until all was said, and whether it was. With `only_if_there`, not for a service that is away."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._said or (only_if_there and self._away), timeout=seconds)
            return self._closed or (self._said and not self._ended)

    @property
    def waiting(self) -> list[Checkpoint]:
        """What the service has not been told yet."""
        with self._changed:
            return [saved.checkpoint for saved in self._waiting]

    @property
    def _said(self) -> bool:
        return self._ended or (self.job is not None and not self._waiting and (self._closed or not self._closing))

    # The thread

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        try:
            with self._connect() as client:
                while not self._ended:
                    try:
                        self._say(client)
                        self._look(client)
                    except ServiceError as error:
                        if not (
                            isinstance(error, Unreachable) or (error.status or 0) >= 500 or error.status in PASSING
                        ):
                            raise
                        self._is_away(error)
                        self._rest(pause)
                        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                    else:
                        pause = FIRST_PAUSE_SECONDS
                        self._away = False
                        self._rest(self._look_seconds)
        except PrememError as error:
            self._warn(f"this run is not followed any more, and training goes on: {error}")
        except Exception as error:  # whatever it is: nothing here is worth a training run
            self._warn(f"this run is not followed any more, and training goes on: {type(error).__name__}: {error}")
        finally:
            self._end()

    def _say(self, client: Client) -> None:
        """Everything that waits, in order; what fails stays in front."""
        if self.job is None:
            job = self._begin(client, self._key)
            with self._changed:
                self.job = job.id
                self._changed.notify_all()
        while self._waiting:
            saved = self._waiting[0]
            try:
                saved.prepare()
            except OSError as error:
                self._warn(f"{saved.checkpoint.name} is left out, and training goes on: {error}")
            else:
                self._register(client, self.job, saved)
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()
        if self._closing and not self._closed and not self._waiting:
            client.close_job(self.job)
            with self._changed:
                self._closed = True
                self._changed.notify_all()

    def _register(self, client: Client, job: str, saved: Saved) -> None:
        try:
            client.append_checkpoint(job, saved.checkpoint)
        except Conflict:
            # An earlier attempt took effect and its answer was lost, or a resumed run saved it anew.
            there = {checkpoint.name for checkpoint in client.job(job).checkpoints}
            if saved.checkpoint.name not in there:
                raise
        self._registered[saved.checkpoint.name] = saved

    def _look(self, client: Client) -> None:
        """What was scored meanwhile, and which checkpoints are needed no more."""
        if self.job is None or not self._registered:
            return
        job = client.job(self.job)
        done = [checkpoint.name for checkpoint in job.checkpoints if checkpoint.state in ENDED]
        if len(done) > self._done:
            new = [line for line in client.so_far(self.job).checkpoints if line.checkpoint not in self._told]
            with self._changed:
                self._news.extend(new)
            self._told.update(line.checkpoint for line in new)
            self._done = len(done)
        # The last one is asked again under perturbed prompts when the job is closed.
        newest = None if job.state in ENDED else job.checkpoints[-1].name
        for name in done:
            if name != newest and (saved := self._registered.pop(name, None)):
                saved.release()
        if job.state in ENDED:
            with self._changed:
                self._ended = self._closed = True

    def _rest(self, seconds: float) -> None:
        """Until there is something to say, or long enough."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self._ended and (left := deadline - time.monotonic()) > 0:
                to_say = self._waiting or (self._closing and not self._closed)
                if self._hurried or (to_say and not self._away):
                    break
                self._changed.wait(left)
            self._hurried = False

    def _is_away(self, error: ServiceError) -> None:
        with self._changed:
            was_away, self._away = self._away, True
            self._changed.notify_all()
        if not was_away:
            self._warn(f"training goes on, and what is to be said is said later: {error}")

    def _end(self) -> None:
        with self._changed:
            self._ended = True  # what is held stays so after a refusal: somebody may register it by hand
            self._changed.notify_all()
