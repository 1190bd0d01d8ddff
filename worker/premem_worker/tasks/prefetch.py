"""Lease the next task, and fetch what it needs, while the last answers of the one before are drawn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

import structlog

from premem.errors import Interrupted, ServiceError
from premem_worker.tasks.in_hand import TaskInHand

Stopped = Callable[[], bool]

log = structlog.get_logger(__name__)


class Prefetch:
    """At most one task, asked for in a thread of its own."""

    def __init__(
        self,
        lease: Callable[[Stopped], TaskInHand | None],
        fetch: Callable[[TaskInHand], None],
        give_back: Callable[[TaskInHand], None],
    ) -> None:
        """`lease`: the next task, None where none waits; raises Interrupted once it is stopped, and ServiceError."""
        self._lease = lease
        self._fetch = fetch
        self._give_back = give_back
        self._request: _Request | None = None

    def ask(self, *, after: int) -> None:
        """Begin to ask, unless that is under way or done. `after` is the number of results that were handed in: where
        no task waited, it is only asked again after another one, which may have made tasks."""
        if self._request is None or (self._request.in_vain and self._request.after != after):
            self._request = _Request(self._lease, self._fetch, after=after)

    def take(self, *, stopped: Stopped) -> TaskInHand | None:
        """The task, once the service has answered; None where none was asked for or none waits. Raises Interrupted."""
        if self._request is None:
            return None
        in_hand = self._request.wait(stopped)
        self._request = None
        return in_hand

    def take_notice(self) -> TaskInHand | None:
        """The task, once it is leased and everything is there that it needs. None before, and None when it was given."""
        if self._request is None or self._request.noticed:
            return None
        in_hand = self._request.answered
        if in_hand is None or in_hand.ready is None:
            return None
        self._request.noticed = True
        return in_hand

    def put_back(self) -> None:
        """Give back what was leased, or will be in a moment."""
        request, self._request = self._request, None
        if request is not None and (in_hand := request.abandon()) is not None:
            self._give_back(in_hand)


class _Request:
    def __init__(
        self, lease: Callable[[Stopped], TaskInHand | None], fetch: Callable[[TaskInHand], None], *, after: int
    ) -> None:
        self.after = after
        self.noticed = False
        self._lease = lease
        self._fetch = fetch
        self._abandoned = threading.Event()
        self._answer: Future[TaskInHand | None] = Future()
        threading.Thread(target=self._run, name="leasing ahead", daemon=True).start()

    @property
    def answered(self) -> TaskInHand | None:
        """The task that was leased by now."""
        return self._answer.result() if self._answer.done() and self._answer.exception() is None else None

    @property
    def in_vain(self) -> bool:
        return self._answer.done() and self._answer.exception() is None and self._answer.result() is None

    def wait(self, stopped: Stopped) -> TaskInHand | None:
        while not self._answer.done():
            if stopped():
                raise Interrupted("stopped while the next task was leased")
            try:
                return self._answer.result(timeout=0.05)
            except TimeoutError:
                pass
        return self._answer.result()

    def abandon(self) -> TaskInHand | None:
        self._abandoned.set()
        return self._answer.result()

    def _run(self) -> None:
        try:
            in_hand = self._lease(self._abandoned.is_set)
        except (Interrupted, ServiceError) as error:
            # Whoever asks when its turn has come meets the same error, and deals with it.
            log.debug("no task was leased ahead", reason=str(error))
            self._answer.set_result(None)
            return
        except BaseException as error:
            self._answer.set_exception(error)
            raise
        self._answer.set_result(in_hand)
        if in_hand is not None and not self._abandoned.is_set():
            self._fetch(in_hand)
