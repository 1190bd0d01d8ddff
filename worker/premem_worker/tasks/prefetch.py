"""Lease the next task, and fetch what it needs, while the last answers of the one before are drawn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

import structlog

from premem.errors import Interrupted, ServiceError
from premem_worker.tasks.in_hand import Held

Stopped = Callable[[], bool]

log = structlog.get_logger(__name__)


class Ahead:
    """At most one task, asked for in a thread of its own."""

    def __init__(
        self,
        lease: Callable[[Stopped], Held | None],
        fetch: Callable[[Held], None],
        give_back: Callable[[Held], None],
    ) -> None:
        """`lease`: the next task, None where none waits; raises Interrupted once it is stopped, and ServiceError."""
        self._lease = lease
        self._fetch = fetch
        self._give_back = give_back
        self._asked: _Asked | None = None

    def ask(self, *, after: int) -> None:
        """Begin to ask, unless that is under way or done. `after` is the number of results that were handed in: where
        no task waited, it is only asked again after another one, which may have made tasks."""
        if self._asked is None or (self._asked.in_vain and self._asked.after != after):
            self._asked = _Asked(self._lease, self._fetch, after=after)

    def take(self, *, stopped: Stopped) -> Held | None:
        """The task, once the service has answered; None where none was asked for or none waits. Raises Interrupted."""
        if self._asked is None:
            return None
        held = self._asked.held(stopped)
        self._asked = None
        return held

    @property
    def ready(self) -> Held | None:
        """The task, where it is leased and everything is there that it needs."""
        held = self._asked.answered if self._asked is not None else None
        return held if held is not None and held.ready is not None else None

    def put_back(self) -> None:
        """Give back what was leased, or will be in a moment."""
        asked, self._asked = self._asked, None
        if asked is not None and (held := asked.abandon()) is not None:
            self._give_back(held)


class _Asked:
    def __init__(self, lease: Callable[[Stopped], Held | None], fetch: Callable[[Held], None], *, after: int) -> None:
        self.after = after
        self._lease = lease
        self._fetch = fetch
        self._abandoned = threading.Event()
        self._answer: Future[Held | None] = Future()
        threading.Thread(target=self._run, name="leasing ahead", daemon=True).start()

    @property
    def answered(self) -> Held | None:
        """The task that was leased by now."""
        return self._answer.result() if self._answer.done() and self._answer.exception() is None else None

    @property
    def in_vain(self) -> bool:
        return self._answer.done() and self._answer.exception() is None and self._answer.result() is None

    def held(self, stopped: Stopped) -> Held | None:
        while not self._answer.done():
            if stopped():
                raise Interrupted("stopped while the next task was leased")
            try:
                return self._answer.result(timeout=0.05)
            except TimeoutError:
                pass
        return self._answer.result()

    def abandon(self) -> Held | None:
        self._abandoned.set()
        return self._answer.result()

    def _run(self) -> None:
        try:
            held = self._lease(self._abandoned.is_set)
        except (Interrupted, ServiceError) as error:
            # Whoever asks when its turn has come meets the same error, and deals with it.
            log.debug("no task was leased ahead", reason=str(error))
            self._answer.set_result(None)
            return
        except BaseException as error:
            self._answer.set_exception(error)
            raise
        self._answer.set_result(held)
        if held is not None and not self._abandoned.is_set():
            self._fetch(held)
