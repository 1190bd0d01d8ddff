"""One pass over a task's rows: what the engine is asked (`plan`), and what becomes of its answers (`graded`)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass, replace
from typing import Protocol

from premem.errors import CheckpointError, EngineError, Interrupted
from premem.method.copying import similarity
from premem.payloads.results import RowResult
from premem.records import Answer, Grade
from premem_worker.engines.requests import Sampled, Scored, ScoreRequest
from premem_worker.passes.pace import close
from premem_worker.passes.plan import Plan, is_unicode


class Grading(Protocol):
    """The part of premem.grading.pool.GradingPool that is used here."""

    def submit(self, reference: str, answer: str) -> Future[Grade]: ...


@dataclass(frozen=True, slots=True)
class Saving:
    """Where what is done of a pass is saved meanwhile, for whoever goes on with it should it be lost."""

    save: Callable[[list[RowResult]], None]
    """Takes the rows of which something is known; must not block."""
    seconds: float = 30.0
    """Between two of them."""


def graded(
    made: Plan,
    outcomes: Iterator[Scored | Sampled],
    *,
    grading: Grading,
    stopped: Callable[[], bool],
    saving: Saving | None = None,
) -> list[RowResult]:
    """The results of a task's rows: what the engine scored as perplexities, what it sampled with its grades.

    `outcomes` are the engine's answers to the feed of the plan, to which grades may add. Raises Interrupted soon after
    `stopped` turns true, CheckpointError where the model's numbers are none, EngineError where the engine leaves a
    request unanswered.
    """
    collected = _Collected(made)
    saved_at = time.monotonic()
    try:
        for outcome in outcomes:
            if isinstance(outcome, Scored):
                collected.take_score(outcome)
            else:
                collected.take_sample(outcome, grading)
            if stopped():
                raise Interrupted("stopped in the middle of a pass")
            if saving is not None and time.monotonic() > saved_at + saving.seconds:
                saving.save(collected.so_far())
                saved_at = time.monotonic()
        wait_for_all(collected.grades, stopped)
        collected.check_complete()
    except Interrupted:
        if saving is not None and (rows := collected.so_far()):
            saving.save(rows)
        raise
    finally:
        close(outcomes)
        for grade in collected.grades:
            grade.cancel()  # no effect on those that are done
    return collected.rows()


class _Collected:
    """What came out of the engine, each thing asked for once."""

    def __init__(self, made: Plan) -> None:
        self._task = made.task
        self._examples = made.examples
        self._results = made.results
        self._scores_due = {request.row for request in made.requests if isinstance(request, ScoreRequest)}
        self._draws = made.draws
        self._graded: dict[tuple[int, int], tuple[Sampled, Future[Grade]]] = {}

    @property
    def grades(self) -> list[Future[Grade]]:
        return [grade for _, grade in self._graded.values()]

    def take_score(self, scored: Scored) -> None:
        if scored.row not in self._scores_due:
            raise EngineError(f"the engine scored row {scored.row} twice or unasked")
        self._scores_due.remove(scored.row)
        result = self._results[scored.row]
        if scored.tokens != result.target_tokens:
            raise EngineError(
                f"the engine scored {scored.tokens} tokens of row {scored.row}, its target has {result.target_tokens}"
            )
        result.perplexity = self._perplexity(scored)

    def take_sample(self, sampled: Sampled, grading: Grading) -> None:
        """Have it graded, its text made fit for UTF-8; the grade may lead to more requests."""
        key = (sampled.row, sampled.sample)
        if key not in self._draws.due:
            raise EngineError(f"the engine answered sample {sampled.sample} of row {sampled.row} twice or unasked")
        self._draws.due.remove(key)
        if not is_unicode(sampled.text):
            text = sampled.text.encode("utf-8", "replace").decode()
            sampled = Sampled(sampled.row, sampled.sample, text, sampled.tokens, sampled.finished)
        grade = grading.submit(self._examples[sampled.row - self._task.start].reference, sampled.text)
        self._graded[sampled.row, sampled.sample] = sampled, grade
        self._draws.await_grade(sampled.row, grade)

    def check_complete(self) -> None:
        if self._scores_due or self._draws.unanswered:
            raise EngineError(
                f"the engine ended with {len(self._scores_due)} scores and {self._draws.unanswered} samples unanswered"
            )

    def rows(self) -> list[RowResult]:
        """All of them, once everything is graded."""
        return [self._with_answers(result) for result in self._results.values()]

    def so_far(self) -> list[RowResult]:
        """Of the rows of which something is known: perplexities, and answers without a gap."""
        rows = [self._with_answers(result) for result in self._results.values() if result.skipped is None]
        return [result for result in rows if result.perplexity is not None or result.answers]

    def _with_answers(self, result: RowResult) -> RowResult:
        """Those that were known before, and those after them that are graded."""
        answers, similarities = list(result.answers), list(result.similarities)
        compared = self._task.kind in ("train", "draw")
        trace = self._examples[result.row - self._task.start].trace
        while (found := self._graded.get((result.row, len(answers)))) is not None and found[1].done():
            sampled, grade = found
            if grade.cancelled() or grade.exception() is not None:
                break
            answers.append(
                Answer(text=sampled.text, grade=grade.result(), tokens=sampled.tokens, finished=sampled.finished)
            )
            similarities += [similarity(sampled.text, trace)] if compared else []
        return replace(result, answers=answers, similarities=similarities)

    def _perplexity(self, scored: Scored) -> float:
        """exp(-log_likelihood/tokens). A log-likelihood a rounding above 0 counts as 0."""
        nll = -scored.log_likelihood / scored.tokens
        if not math.isfinite(nll) or nll > 700.0:  # exp(710) is beyond a double
            raise CheckpointError(
                f"checkpoint {self._task.checkpoint.name!r} ({self._task.checkpoint.path}) gives the reference of example "
                f"{self._examples[scored.row - self._task.start].id!r} (row {scored.row}) a log-likelihood of "
                f"{scored.log_likelihood}: look for NaN or infinite weights"
            )
        if nll < -1e-3:
            raise EngineError(
                f"the engine gave row {scored.row} a probability above 1 (log-likelihood {scored.log_likelihood})"
            )
        return math.exp(max(0.0, nll))


def wait_for_all(grades: Iterable[Future[Grade]], stopped: Callable[[], bool]) -> None:
    """Raises Interrupted, and whatever a grader raised that cannot go on."""
    pending = set(grades)
    while pending:
        if stopped():
            raise Interrupted("stopped while answers were graded")
        done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
        for grade in done:
            grade.result()  # a grader that cannot go on ends the pass now, not after the last answer
