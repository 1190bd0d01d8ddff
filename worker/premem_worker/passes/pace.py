"""How far a pass is, and what it took: the engine's answers are counted as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar

from premem.payloads.effort import Effort
from premem_worker.engines.feed import Feed
from premem_worker.engines.requests import Embedded, EmbedRequest, Sampled, Scored
from premem_worker.lifetime.watchdog import Watch

Outcome = TypeVar("Outcome")


class Pace:
    """Answers asked for and given, and about how long the rest takes."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._asked: Callable[[], int] = lambda: 0
        self._answered = 0
        self._over = False

    def begin(self, requested: Callable[[], int]) -> None:
        """`asked`: how many answers have been asked for so far."""
        self._began, self._asked = self._clock(), requested

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


class Meter:
    """What one pass takes, counted while its answers pass through.

    Each answer, and each time that the engine looks whether it was stopped, is a sign of life.
    """

    def __init__(
        self,
        watch: Watch,
        *,
        loading_seconds: float,
        cache_bytes: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pace = Pace(clock=clock)
        self._watch = watch
        self._clock = clock
        self._loading_seconds = loading_seconds
        self._cache_bytes = cache_bytes
        self._engine_seconds = self._idle_seconds = 0.0
        self._prompt_tokens = self._cached_tokens = 0
        self._ended_at: float | None = None

    @property
    def effort(self) -> Effort:
        """By now; the seconds since the engine's last answer are those in which grades were waited for."""
        now = self._clock()
        return Effort(
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            engine_seconds=round(max(0.0, self._engine_seconds - self._idle_seconds), 3),
            waiting_seconds=round(now - (self._ended_at or now) + self._idle_seconds, 3),
            loading_seconds=round(self._loading_seconds, 3),
            cache_bytes=self._cache_bytes,
        )

    def watched(self, stopped: Callable[[], bool]) -> Callable[[], bool]:
        """The same, for the engine to look at."""

        def look() -> bool:
            self._watch.alive()
            return stopped()

        return look

    def answers(self, outcomes: Iterator[Scored | Sampled], feed: Feed) -> Iterator[Scored | Sampled]:
        """The engine's answers to what the feed asks, as they come."""
        return self._counted(outcomes, requested=lambda: feed.answers, idle=lambda: feed.idle_seconds)

    def embeddings(self, outcomes: Iterator[Embedded], requests: Sequence[EmbedRequest]) -> Iterator[Embedded]:
        """The engine's embeddings of these prompts, as they come."""
        self._prompt_tokens = sum(len(request.tokens) for request in requests)
        return self._counted(outcomes, requested=lambda: len(requests), idle=lambda: 0.0)

    def _counted(
        self, outcomes: Iterator[Outcome], *, requested: Callable[[], int], idle: Callable[[], float]
    ) -> Iterator[Outcome]:
        self.pace.begin(requested)
        self._watch.alive()
        since, idle_before = self._clock(), idle()
        try:
            for outcome in outcomes:
                self._watch.rest()
                self._engine_seconds += self._clock() - since
                self.pace.answer()
                if isinstance(outcome, Scored | Sampled):
                    self._prompt_tokens += outcome.prompt_tokens
                    self._cached_tokens += outcome.cached_tokens
                yield outcome
                self._watch.alive()
                since = self._clock()
        finally:
            self._watch.rest()
            close(outcomes)
        self._ended_at = self._clock()
        self._engine_seconds += self._ended_at - since
        self._idle_seconds = max(0.0, idle() - idle_before)
        self.pace.end()


def close(outcomes: Iterator[object]) -> None:
    """End what gives them: no request may be left running in an engine when the next weights come."""
    if isinstance(outcomes, Generator):
        outcomes.close()
