"""Hand results in from a thread of its own, while the next pass runs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from premem.errors import Interrupted
from premem_worker.tasks.in_hand import TaskInHand

MOST = 2
"""Results on their way, the one that is being sent included: each of them keeps memory and a lease."""
_LOOK_SECONDS = 0.1


class Uploads:
    """Sends one result after the other. A thread lives as long as there is one to send."""

    def __init__(self, send: Callable[[TaskInHand, bytes], None]) -> None:
        """`send` hands one result in and deals with whatever comes of it. It raises nothing."""
        self._send = send
        self._waiting: deque[tuple[TaskInHand, bytes]] = deque()
        self._changed = threading.Condition()
        self._pending = 0
        self._answered = 0

    @property
    def answered(self) -> int:
        """How many have been dealt with since the beginning."""
        with self._changed:
            return self._answered

    @property
    def pending(self) -> int:
        with self._changed:
            return self._pending

    def put(self, in_hand: TaskInHand, content: bytes, *, stopped: Callable[[], bool]) -> None:
        """Take a result over, as soon as there is room. Raises Interrupted soon after `stopped` turns true."""
        with self._changed:
            while self._pending >= MOST:
                if stopped():
                    raise Interrupted("stopped while the results before were handed in")
                self._changed.wait(_LOOK_SECONDS)
            self._waiting.append((in_hand, content))
            self._pending += 1
            if self._pending == 1:
                threading.Thread(target=self._run, name="uploads", daemon=True).start()

    def answered_since(self, count: int, *, seconds: float, stopped: Callable[[], bool]) -> bool:
        """Whether more than `count` have been dealt with; where one is on its way, waits `seconds` for it."""
        looks = max(1, round(seconds / _LOOK_SECONDS))
        with self._changed:
            while self._answered == count and self._pending and looks and not stopped():
                self._changed.wait(_LOOK_SECONDS)
                looks -= 1
            return self._answered != count

    def finish(self) -> None:
        """Wait until every result has been dealt with, which a lease that ends sets a limit to."""
        with self._changed:
            while self._pending:
                self._changed.wait()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    return
                in_hand, content = self._waiting.popleft()
            try:
                self._send(in_hand, content)
            finally:
                del content
                with self._changed:
                    self._pending -= 1
                    self._answered += 1
                    self._changed.notify_all()
