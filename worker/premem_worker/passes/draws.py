"""Which answers the engine is asked for: of each row as many as reach its goal, the next ones once the first are graded."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from premem.method.planning import Goal
from premem.records import Answer, Grade
from premem_worker.engines.feed import Feed
from premem_worker.engines.requests import SampleRequest, ScoreRequest


@dataclass(slots=True)
class _Row:
    tokens: tuple[int, ...]
    seeds: tuple[int, ...]
    goal: Goal
    correct: int
    drawn: int
    asked: int


class Draws:
    """Grades may come from any thread; the feed is closed as soon as no row can need another answer."""

    def __init__(self) -> None:
        self.due: set[tuple[int, int]] = set()
        """Row and sample of the answers that were asked for and have not come."""
        self._rows: dict[int, _Row] = {}
        self._open: set[int] = set()
        """Rows that may need more than was asked for."""
        self._feed = Feed()
        self._lock = threading.Lock()

    def first(
        self, row: int, tokens: tuple[int, ...], seeds: tuple[int, ...], goal: Goal, known: Sequence[Answer]
    ) -> SampleRequest | None:
        """What to ask for at first; None where the answers that are `known` reach the goal."""
        right = sum(answer.grade.verdict == "right" for answer in known)
        self._rows[row] = _Row(tokens, seeds, goal, right, len(known), len(known))
        return self._next(row)

    def feed(self, requests: Sequence[ScoreRequest | SampleRequest]) -> Feed:
        """With the first requests of all rows; what they lead to is added to it."""
        self._feed = Feed(requests)
        if not self._open:
            self._feed.close()
        return self._feed

    def await_grade(self, row: int, grade: Future[Grade]) -> None:
        grade.add_done_callback(lambda done: self._take(row, done))

    @property
    def unanswered(self) -> int:
        """Answers that are due, and rows whose goal is not reached."""
        return len(self.due | {(row, -1) for row in self._open})

    def _take(self, row: int, done: Future[Grade]) -> None:
        with self._lock:
            if done.cancelled() or done.exception() is not None:
                self._open.clear()  # whoever waits for the grades learns of it
                self._feed.close()
                return
            state = self._rows[row]
            state.drawn += 1
            state.correct += done.result().verdict == "right"
            if state.drawn < state.asked or row not in self._open:
                return
            request = self._next(row)
            if request is not None:
                self._feed.add([request])
            if not self._open:
                self._feed.close()

    def _next(self, row: int) -> SampleRequest | None:
        state = self._rows[row]
        more = state.goal.more(state.correct, state.drawn, samples=len(state.seeds))
        first, state.asked = state.asked, state.asked + more
        if more and state.asked < len(state.seeds):
            self._open.add(row)
        else:
            self._open.discard(row)
        if not more:
            return None
        self.due.update((row, sample) for sample in range(first, state.asked))
        return SampleRequest(row=row, tokens=state.tokens, seeds=state.seeds[first : state.asked], first=first)
