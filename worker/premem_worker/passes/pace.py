"""How far a pass is, and what it took: an engine is wrapped for one pass, and its answers counted as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar, cast

from premem.payloads.effort import Effort
from premem.wire.jobs import Sampling
from premem_worker.engines.feed import Feed
from premem_worker.engines.protocol import (
    Embedded,
    EmbeddingEngine,
    EmbedRequest,
    Engine,
    Sampled,
    SampleRequest,
    Scored,
    ScoreRequest,
)
from premem_worker.lifetime.watchdog import Watch
from premem_worker.passes.engine_proxy import Lent

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


class Paced(Lent):
    """An engine for the length of one pass; `told` is called after each of its answers and after the last one.

    Each answer, and each time that the engine looks whether it was stopped, is a sign of life.
    """

    def __init__(
        self,
        engine: Engine,
        pace: Pace,
        watch: Watch,
        *,
        loading_seconds: float,
        told: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(engine)
        self._pace = pace
        self._watch = watch
        self._told = told
        self._clock = clock
        self._loading_seconds = loading_seconds
        self._engine_seconds = self._idle_seconds = 0.0
        self._prompt_tokens = self._cached_tokens = self._cache_bytes = 0
        self._ended_at: float | None = None

    @property
    def produced_by(self) -> dict[str, str]:
        """What the pass took stands beside it, once the engine has answered everything."""
        took = {} if self._ended_at is None else self.effort.as_metadata()
        return {**super().produced_by, **took}

    @property
    def effort(self) -> Effort:
        now = self._clock()
        return Effort(
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            engine_seconds=round(max(0.0, self._engine_seconds - self._idle_seconds), 3),
            waiting_seconds=round(now - (self._ended_at or now) + self._idle_seconds, 3),
            loading_seconds=round(self._loading_seconds, 3),
            cache_bytes=self._cache_bytes,
        )

    def run(
        self,
        requests: Feed | Sequence[ScoreRequest | SampleRequest],
        *,
        sampling: Sampling,
        stopped: Callable[[], bool],
    ) -> Iterator[Scored | Sampled]:
        feed = Feed.of(requests)
        self._pace.begin(lambda: feed.answers)
        self._cache_bytes = self.cache_bytes
        outcomes = self._engine.run(feed, sampling=sampling, stopped=self._alive(stopped))
        return self._counted(outcomes, idle=lambda: feed.idle_seconds)

    def embed(self, requests: Sequence[EmbedRequest], *, stopped: Callable[[], bool]) -> Iterator[Embedded]:
        self._pace.begin(lambda: len(requests))
        self._prompt_tokens = sum(len(request.tokens) for request in requests)
        outcomes = cast(EmbeddingEngine, self._engine).embed(requests, stopped=self._alive(stopped))
        return self._counted(outcomes, idle=lambda: 0.0)

    def _alive(self, stopped: Callable[[], bool]) -> Callable[[], bool]:
        def look() -> bool:
            self._watch.alive()
            return stopped()

        return look

    def _counted(self, outcomes: Iterator[Outcome], *, idle: Callable[[], float]) -> Iterator[Outcome]:
        self._watch.alive()
        since, idle_before = self._clock(), idle()
        try:
            for outcome in outcomes:
                self._watch.rest()
                self._engine_seconds += self._clock() - since
                self._pace.answer()
                if isinstance(outcome, Scored | Sampled):
                    self._prompt_tokens += outcome.prompt_tokens
                    self._cached_tokens += outcome.cached_tokens
                self._told()
                yield outcome
                self._watch.alive()
                since = self._clock()
        finally:
            self._watch.rest()
            if isinstance(outcomes, Generator):
                outcomes.close()  # no request may be left running when the next weights come
        self._ended_at = self._clock()
        self._engine_seconds += self._ended_at - since
        self._idle_seconds = max(0.0, idle() - idle_before)
        self._pace.end()
        self._told()
