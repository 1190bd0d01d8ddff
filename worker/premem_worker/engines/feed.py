"""Requests that may still grow in number while an engine answers them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set

from premem.errors import Interrupted
from premem_worker.engines.requests import SampleRequest, ScoreRequest, answers_to

_LOOK_SECONDS = 0.1
"""How long an idle engine waits before it looks again whether it was stopped."""


class Feed:
    """A growing source of requests. Any thread may add to it, for as long as it is not closed."""

    def __init__(self, requests: Iterable[ScoreRequest | SampleRequest] = ()) -> None:
        self._requests = list(requests)
        self._answers = sum(map(answers_to, self._requests))
        self._rows = {request.row for request in self._requests}
        self._closed = False
        self._idle_seconds = 0.0
        self._changed = threading.Condition()
        self._into: MergedFeed | None = None

    @classmethod
    def of(cls, requests: Feed | Sequence[ScoreRequest | SampleRequest]) -> Feed:
        """The feed itself; a sequence becomes one that is closed already."""
        if isinstance(requests, Feed):
            return requests
        feed = cls(requests)
        feed.close()
        return feed

    def add(self, requests: Iterable[ScoreRequest | SampleRequest]) -> None:
        """Raises ValueError where the feed is closed: the engine may have left already."""
        with self._changed:
            if self._closed:
                raise ValueError("this feed is closed")
            added = list(requests)
            self._answers += sum(map(answers_to, added))
            self._rows.update(request.row for request in added)
            if self._into is not None:
                self._into.add(added)
                return
            self._requests += added
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more will come. Closing twice does nothing."""
        with self._changed:
            if self._into is not None and not self._closed:
                self._into.leave(self)
            self._closed = True
            self._changed.notify_all()

    def pour(self, into: MergedFeed) -> None:
        """What waits in this feed, and all that will come, is taken from the other one instead."""
        with self._changed:
            self._into = into
            waiting, self._requests = self._requests, []
            into.add(waiting)

    def lead(self) -> None:
        """Of the feeds that are poured into the same one this is the one that is waited for."""
        with self._changed:
            if self._into is not None:
                self._into.follow(self, closed=self._closed)

    @property
    def answers(self) -> int:
        """That have been asked for so far, taken or not."""
        with self._changed:
            return self._answers

    @property
    def idle_seconds(self) -> float:
        """That were slept in `wait` so far; where this feed is poured into another one, in that one's."""
        return self._idle_seconds if self._into is None else self._into.idle_seconds

    @property
    def rows(self) -> Set[int]:
        """That something has been asked of so far."""
        return self._rows

    @property
    def closed(self) -> bool:
        with self._changed:
            return self._closed

    @property
    def ended(self) -> bool:
        """Closed, and everything taken."""
        with self._changed:
            return self._closed and not self._requests

    def take(self) -> list[ScoreRequest | SampleRequest]:
        """All that wait, in the order in which they came, without waiting for more."""
        with self._changed:
            taken, self._requests = self._requests, []
            return taken

    def wait(self, stopped: Callable[[], bool]) -> None:
        """Sleep until something can be taken or the feed is closed. Raises Interrupted soon after `stopped` is true."""
        with self._changed:
            began = time.monotonic()
            try:
                while not self._requests and not self._closed:
                    if stopped():
                        raise Interrupted("stopped while the engine waited for requests")
                    self._changed.wait(_LOOK_SECONDS)
            finally:
                self._idle_seconds += time.monotonic() - began

    def each(self, stopped: Callable[[], bool]) -> Iterator[ScoreRequest | SampleRequest]:
        """One request after the other until the feed has ended. Raises Interrupted."""
        while not self.ended:
            self.wait(stopped)
            yield from self.take()


class MergedFeed(Feed):
    """What several feeds ask for together. It is closed where the one that leads is: others may be open until their turn
    comes, and an engine that waited for them would wait forever."""

    def __init__(self) -> None:
        super().__init__()
        self._leader: Feed | None = None
        self._closed = True

    def add(self, requests: Iterable[ScoreRequest | SampleRequest]) -> None:
        with self._changed:
            self._requests += requests
            self._changed.notify_all()

    def follow(self, leader: Feed, *, closed: bool) -> None:
        with self._changed:
            self._leader, self._closed = leader, closed

    def leave(self, feed: Feed) -> None:
        """That one is closed."""
        with self._changed:
            self._closed = self._closed or feed is self._leader
            self._changed.notify_all()
