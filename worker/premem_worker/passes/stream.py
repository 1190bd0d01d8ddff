"""One run of an engine for several passes: the first answers of the next are drawn beside the last ones of the one before.

What the one asks and what the other asks may go to two adapters of one base.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import cast

from premem.wire.jobs import Sampling
from premem_worker.engines.feed import Feed, Joint
from premem_worker.engines.protocol import Engine, MixingEngine, Sampled, SampleRequest, Scored, ScoreRequest
from premem_worker.passes.engine_proxy import Lent

Outcome = Scored | Sampled


class _Lane:
    """What one pass asks for, and the answers that wait for it."""

    def __init__(self, feed: Feed, model: int) -> None:
        self.feed = feed
        self.model = model
        self.waiting: deque[Outcome] = deque()
        self.given = 0

    @property
    def over(self) -> bool:
        return self.feed.closed and self.given >= self.feed.answers

    def owns(self, outcome: Outcome) -> bool:
        return outcome.model == self.model and outcome.row in self.feed.rows


class Stream(Lent):
    """An engine, as its passes see it, one after the other. The first asks the checkpoint that is loaded, the others the
    same one as the pass before or another adapter of its base.

    Where a pass has ended without all of its answers, whatever was begun for others is lost, and they have to begin anew.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._joint = Joint()
        self._lanes: list[_Lane] = []
        self._model = 0
        """Of the pass that runs."""
        self._sampling: Sampling | None = None
        self._outcomes: Iterator[Outcome] | None = None
        self._stopped: Callable[[], bool] = lambda: False

    def beside(self, checkpoint: Path, *, dtype: str | None, adapter: Path | None) -> int | None:
        """Have the engine hold this one too: the number of the model that it is there. None: it cannot. Raises what
        MixingEngine.beside does."""
        if not self.continuous or not self._lanes:
            return None
        keep = {lane.model for lane in self._lanes}
        return cast(MixingEngine, self._engine).beside(checkpoint, dtype=dtype, adapter=adapter, keep=keep)

    def takes(self, rows: range, sampling: Sampling, *, model: int | None = None) -> bool:
        """Whether another pass can begin beside the one that runs, with that model; None: with the same one. Nothing but
        model and row tells whose an answer is."""
        asked = self._model if model is None else model
        return (
            self.continuous
            and bool(self._lanes)
            and self._sampling is not None
            and _settings(sampling) == _settings(self._sampling)
            and all(lane.model != asked or lane.feed.rows.isdisjoint(rows) for lane in self._lanes)
        )

    def begin(self, feed: Feed, *, model: int | None = None) -> None:
        """Have the engine work on these too, beside what it is asked already; `run` with the same feed gives the answers.

        Only what it `takes`.
        """
        asked = self._model if model is None else model
        self._lanes.append(_Lane(feed, asked))
        feed.pour(self._joint, model=asked)

    def run(
        self,
        requests: Feed | Sequence[ScoreRequest | SampleRequest],
        *,
        sampling: Sampling,
        stopped: Callable[[], bool],
    ) -> Iterator[Outcome]:
        feed = Feed.of(requests)
        if all(lane.feed is not feed for lane in self._lanes):
            self.abandon()
            self.begin(feed)
        (lane,) = (lane for lane in self._lanes if lane.feed is feed)
        feed.lead()
        self._model, self._sampling, self._stopped = lane.model, sampling, stopped
        try:
            yield from self._answers(lane)
        except BaseException:
            self.abandon()
            raise
        self._lanes.remove(lane)

    def abandon(self) -> None:
        """End the run, whatever is left of it."""
        outcomes, self._outcomes = self._outcomes, None
        self._joint, self._lanes, self._model = Joint(), [], 0
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
            self._outcomes = self._engine.run(self._joint, sampling=self._sampling, stopped=lambda: self._stopped())
        for outcome in self._outcomes:
            owner = next((one for one in self._lanes if one.owns(outcome)), lane)
            owner.waiting.append(outcome)
            return True
        self._outcomes = None
        return False


def _settings(sampling: Sampling) -> Sampling:
    """What the engine looks at: the seed of each answer comes with its request."""
    return sampling.model_copy(update={"seed": 0, "samples": 1})
