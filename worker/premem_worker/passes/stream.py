"""One run of an engine for several passes: the first answers of the next are drawn beside the last ones of the one before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator

from premem.wire.jobs import Sampling
from premem_worker.engines.feed import Feed, MergedFeed
from premem_worker.engines.protocol import Engine
from premem_worker.engines.requests import Sampled, Scored

Outcome = Scored | Sampled


class _Lane:
    """What one pass asks for, and the answers that wait for it."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.waiting: deque[Outcome] = deque()
        self.given = 0

    @property
    def over(self) -> bool:
        return self.feed.closed and self.given >= self.feed.answers


class Stream:
    """An engine, as its passes see it, one after the other. All of them ask the same checkpoint.

    Where a pass has ended without all of its answers, whatever was begun for others is lost, and they have to begin anew.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._merged = MergedFeed()
        self._lanes: list[_Lane] = []
        self._sampling: Sampling | None = None
        self._outcomes: Iterator[Outcome] | None = None
        self._stopped: Callable[[], bool] = lambda: False

    def takes(self, rows: range, sampling: Sampling) -> bool:
        """Whether another pass can begin beside the one that runs: nothing but the row tells whose an answer is."""
        return (
            self.engine.continuous
            and bool(self._lanes)
            and self._sampling is not None
            and _settings(sampling) == _settings(self._sampling)
            and all(lane.feed.rows.isdisjoint(rows) for lane in self._lanes)
        )

    def begin(self, feed: Feed) -> None:
        """Have the engine work on these too, beside what it is asked already; `run` with the same feed gives the answers.

        Only what it `takes`.
        """
        self._lanes.append(_Lane(feed))
        feed.pour(self._merged)

    def has_begun(self, feed: Feed) -> bool:
        """Whether the engine works on these, or has, and `run` was not called for all of them."""
        return any(lane.feed is feed for lane in self._lanes)

    def run(self, feed: Feed, *, sampling: Sampling, stopped: Callable[[], bool]) -> Iterator[Outcome]:
        """The answers of one pass, as Engine.run gives them."""
        if not self.has_begun(feed):
            self.abandon()
            self.begin(feed)
        (lane,) = (lane for lane in self._lanes if lane.feed is feed)
        feed.lead()
        self._sampling, self._stopped = sampling, stopped
        try:
            yield from self._answers(lane)
        except BaseException:
            self.abandon()
            raise
        self._lanes.remove(lane)

    def abandon(self) -> None:
        """End the run, whatever is left of it."""
        outcomes, self._outcomes = self._outcomes, None
        self._merged, self._lanes = MergedFeed(), []
        if isinstance(outcomes, Generator):
            outcomes.close()  # no request may be left running when the next weights come

    def _answers(self, lane: _Lane) -> Iterator[Outcome]:
        """Those of one lane, until it has them all, or the engine has no more. The last lane waits for the engine's end."""
        while not (lane.over and (self._outcomes is None or len(self._lanes) > 1)):
            if not lane.waiting and not self._pull(lane):
                return
            while lane.waiting:
                lane.given += 1
                yield lane.waiting.popleft()

    def _pull(self, lane: _Lane) -> bool:
        """Take one more answer from the engine, for whomever; one that nobody asked for goes to `lane`, which complains of
        it. False: the engine has answered everything, what others may still ask for left aside."""
        if self._outcomes is None:
            assert self._sampling is not None  # noqa: S101
            self._outcomes = self.engine.run(self._merged, sampling=self._sampling, stopped=lambda: self._stopped())
        for outcome in self._outcomes:
            owner = next((one for one in self._lanes if outcome.row in one.feed.rows), lane)
            owner.waiting.append(outcome)
            return True
        self._outcomes = None
        return False


def _settings(sampling: Sampling) -> Sampling:
    """What the engine looks at: the seed of each answer comes with its request."""
    return sampling.model_copy(update={"seed": 0, "samples": 1})
