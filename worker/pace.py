"""How far a pass is: an engine is wrapped for one pass, and its answers are counted as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar, cast

from premem.wire import Sampling
from worker.engines import (
    Embedded,
    EmbeddingEngine,
    EmbedRequest,
    Engine,
    Sampled,
    SampleRequest,
    Scored,
    ScoreRequest,
    Tokenizer,
    answers_to,
)
from worker.engines.feed import Feed
from worker.watchdog import Watch

Outcome = TypeVar("Outcome")


class Pace:
    """Answers asked for and given, and about how long the rest takes."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._asked: Callable[[], int] = lambda: 0
        self._answered = 0
        self._over = False

    def begin(self, asked: Callable[[], int]) -> None:
        """`asked`: how many answers have been asked for so far."""
        self._began, self._asked = self._clock(), asked

    def answer(self) -> None:
        self._answered += 1

    def end(self) -> None:
        self._over = True

    @property
    def seconds_left(self) -> float:
        """Until the engine has answered everything that is asked by now, at the rate so far; infinite before its
        first answer."""
        if self._over:
            return 0.0
        if not self._answered:
            return float("inf")
        left = max(0, self._asked() - self._answered)
        return left * (self._clock() - self._began) / self._answered


class Paced:
    """An engine for the length of one pass; `told` is called after each of its answers and after the last one.

    Each answer, and each time that the engine looks whether it was stopped, is a sign of life.
    """

    def __init__(self, engine: Engine, pace: Pace, watch: Watch, *, told: Callable[[], None]) -> None:
        self._engine = engine
        self._pace = pace
        self._watch = watch
        self._told = told
        self.name = engine.name

    @property
    def tokenizer(self) -> Tokenizer:
        return self._engine.tokenizer

    @property
    def context(self) -> int:
        return self._engine.context

    @property
    def produced_by(self) -> dict[str, str]:
        return self._engine.produced_by

    def load(self, checkpoint: object, *, dtype: str | None) -> None:
        raise RuntimeError("the checkpoint of a pass that runs stays the one it is")

    def run(
        self,
        requests: Feed | Sequence[ScoreRequest | SampleRequest],
        *,
        sampling: Sampling,
        stopped: Callable[[], bool],
    ) -> Iterator[Scored | Sampled]:
        if isinstance(requests, Feed):
            feed = requests
            self._pace.begin(lambda: feed.answers)
        else:
            asked = sum(map(answers_to, requests))
            self._pace.begin(lambda: asked)
        return self._counted(self._engine.run(requests, sampling=sampling, stopped=self._alive(stopped)))

    def embed(self, requests: Sequence[EmbedRequest], *, stopped: Callable[[], bool]) -> Iterator[Embedded]:
        self._pace.begin(lambda: len(requests))
        return self._counted(cast(EmbeddingEngine, self._engine).embed(requests, stopped=self._alive(stopped)))

    def close(self) -> None:
        raise RuntimeError("an engine is not closed by the pass that it serves")

    def kill(self) -> None:
        self._engine.kill()

    def _alive(self, stopped: Callable[[], bool]) -> Callable[[], bool]:
        def look() -> bool:
            self._watch.alive()
            return stopped()

        return look

    def _counted(self, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
        self._watch.alive()
        try:
            for outcome in outcomes:
                self._watch.rest()
                self._pace.answer()
                self._told()
                yield outcome
                self._watch.alive()
        finally:
            self._watch.rest()
            if isinstance(outcomes, Generator):
                outcomes.close()  # no request may be left running when the next weights come
        self._pace.end()
        self._told()
