"""One pass over a task's rows: render, tokenize, score and sample, grade, and encode what the service takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass, field, replace
from typing import Protocol

from premem.errors import CheckpointError, EngineError, Interrupted
from premem.method.copying import similarity
from premem.method.planning import Goal
from premem.method.sample_seeds import sample_seed
from premem.payloads.results import WEIGHTS, RowResult, decode, encode
from premem.records import Answer, Example, Grade
from premem.wire.tasks import LeasedTask
from premem_worker.engines.feed import Feed
from premem_worker.engines.protocol import Engine, Sampled, SampleRequest, Scored, ScoreRequest
from premem_worker.passes.draws import Draws
from premem_worker.passes.prompts import Chat, Prompts


class Grading(Protocol):
    """The part of premem.grading.pool.GradingPool that is used here."""

    def submit(self, reference: str, answer: str) -> Future[Grade]: ...


@dataclass(slots=True)
class Plan:
    """What the engine is asked for at first, and a result for every row: empty yet, known in part, or skipped."""

    requests: list[ScoreRequest | SampleRequest] = field(default_factory=list)
    results: dict[int, RowResult] = field(default_factory=dict)
    draws: Draws = field(default_factory=Draws)
    feed: Feed = field(default_factory=Feed)
    """The requests, and those that they lead to."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where what is done of a pass is kept meanwhile, for whoever goes on with it should it be lost."""

    keep: Callable[[bytes], None]
    """Takes a partial result; must not block."""
    seconds: float = 30.0
    """Between two of them."""


def run_pass(
    task: LeasedTask,
    examples: Sequence[Example],
    engine: Engine,
    *,
    grading: Grading,
    tokenizer_fingerprint: str,
    model: str = "",
    weights: str = "",
    chat: Chat | None = None,
    stopped: Callable[[], bool],
    partial: bytes | None = None,
    keeping: Keeping | None = None,
    made: Plan | None = None,
) -> bytes:
    """The result of one task, whose checkpoint is loaded, as premem.payloads.results encodes it.

    `model` is the checkpoint's family, `weights` the fingerprint of its weights, `chat` how it writes one, if it can.
    `examples` are the rows from task.start on; `partial` is what is known of them already. `made` is their plan, where the
    engine has been given it before. Raises Interrupted soon after `stopped` turns true, CheckpointError where the model's
    numbers are none or its chat template does not do, EngineError where the engine leaves a request unanswered, InputError
    where the partial result is none.
    """
    made = made or plan(task, examples, engine, partial, chat=chat)
    produced_by = {**engine.produced_by, "tokenizer": tokenizer_fingerprint, "model": model, WEIGHTS: weights}
    collected = _Collected(task, examples, made)
    outcomes = engine.run(made.feed, sampling=task.sampling, stopped=stopped)
    kept_at = time.monotonic()
    try:
        for outcome in outcomes:
            if isinstance(outcome, Scored):
                collected.take_score(outcome)
            else:
                sampled = collected.take_sample(outcome)
                reference = examples[sampled.row - task.start].reference
                collected.take_grade(sampled, grading.submit(reference, sampled.text))
            if stopped():
                raise Interrupted("stopped in the middle of a pass")
            if keeping is not None and time.monotonic() > kept_at + keeping.seconds:
                keeping.keep(encode(collected.so_far(), produced_by=produced_by))
                kept_at = time.monotonic()
        wait_for_all(collected.grades, stopped)
        collected.check_complete()
    except Interrupted:
        if keeping is not None and (rows := collected.so_far()):
            keeping.keep(encode(rows, produced_by=produced_by))
        raise
    finally:
        if isinstance(outcomes, Generator):
            outcomes.close()  # no request may be left running when the next weights come
        for grade in collected.grades:
            grade.cancel()  # no effect on those that are done
    return encode(collected.rows(), produced_by={**produced_by, **engine.produced_by})  # what it took, too, by now


def plan(
    task: LeasedTask,
    examples: Sequence[Example],
    engine: Engine,
    partial: bytes | None = None,
    *,
    chat: Chat | None = None,
) -> Plan:
    """Requests for the rows that fit; the others are skipped, never cut. What is known by a `partial` result is not
    asked for again. Raises InputError where that is none, CheckpointError where a chat is asked for and cannot be had.

    An example's scoring stands before its sampling, which then finds the prompt in the engine's cache.
    """
    made = Plan()
    known = {} if partial is None else {result.row: result for result in decode(partial)[0]}
    prompts = Prompts(task, engine.tokenizer, chat)
    goals = _goals(task)
    for row, example in enumerate(examples, start=task.start):
        if row not in goals:
            continue
        score, tokens, result = _plan_row(task, row, example, prompts, context=engine.context)
        made.results[row] = result
        if result.skipped is not None:
            continue
        before = known.get(row, result)
        result.answers, result.similarities = list(before.answers), list(before.similarities)
        if score is not None and before.perplexity is None:
            made.requests.append(score)
        elif score is not None:
            result.perplexity = before.perplexity
        if (goal := goals[row]) is not None:
            sample = made.draws.first(row, tokens, _seeds(task, example), goal, result.answers)
            made.requests += [] if sample is None else [sample]
    made.feed = made.draws.feed(made.requests)
    return made


def _goals(task: LeasedTask) -> dict[int, Goal | None]:
    """What is to be known of the answers to each row of the task."""
    rows = range(task.start, task.stop)
    if task.kind == "perplexity":
        return dict.fromkeys(rows)
    if task.plan is None:
        return dict.fromkeys(rows, Goal(0, -1, task.sampling.samples))
    planned = zip(task.plan.rows, task.plan.floor, task.plan.ceiling, strict=True)
    return {row: Goal(0, floor, ceiling) for row, floor, ceiling in planned}


def _plan_row(
    task: LeasedTask, row: int, example: Example, prompts: Prompts, *, context: int
) -> tuple[ScoreRequest | None, tuple[int, ...], RowResult]:
    """The scoring where the task asks for it, the prompt's tokens, and the row's result, empty or skipped."""
    prompt = prompts.prompt(example)
    scored = task.kind in ("train", "perplexity")
    result = RowResult(row=row)
    column = task.perturbation and task.perturbation.question_column
    if column and not example.question:
        result.skipped = f"the column {column!r} holds no text"
        return None, (), result
    if not is_unicode(prompt + (example.trace if scored else "") + example.reference):
        result.skipped = "the text is not valid Unicode (a lone surrogate)"
        return None, (), result
    tokens = prompts.tokens(prompt)
    if not tokens:
        result.skipped = "the prompt has no tokens"
    elif len(tokens) + task.sampling.max_tokens > context:
        result.skipped = f"too long for the model's context: {context} tokens do not hold the prompt and {task.sampling.max_tokens} tokens of an answer"
    if not scored or result.skipped is not None:
        return None, tokens, result
    span = prompts.span(tokens, example)
    if span.target_tokens == 0:
        result.skipped = "the target has no tokens"
    elif len(span.tokens) > context:
        result.skipped = f"too long for the model's context: {context} tokens do not hold the prompt and its target"
    else:
        result.target_tokens, result.span_shifted = span.target_tokens, span.shifted
    return ScoreRequest(row=row, tokens=span.tokens, target_start=span.target_start), tokens, result


def _seeds(task: LeasedTask, example: Example) -> tuple[int, ...]:
    # The baseline of the perturbed answers is a fresh draw: with the seeds of the score it would be that draw again.
    split = {"perturbed": f"perturbed {task.variant}", "draw": "train"}.get(task.kind, task.kind)
    return tuple(
        sample_seed(task.sampling.seed, checkpoint=task.checkpoint.name, example=example.id, sample=sample, split=split)
        for sample in range(task.sampling.samples)
    )


class _Collected:
    """What came out of the engine, each thing asked for once."""

    def __init__(self, task: LeasedTask, examples: Sequence[Example], made: Plan) -> None:
        self._task = task
        self._examples = examples
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

    def take_sample(self, sampled: Sampled) -> Sampled:
        """The sample, its text made fit for UTF-8."""
        key = (sampled.row, sampled.sample)
        if key not in self._draws.due:
            raise EngineError(f"the engine answered sample {sampled.sample} of row {sampled.row} twice or unasked")
        self._draws.due.remove(key)
        if not is_unicode(sampled.text):
            text = sampled.text.encode("utf-8", "replace").decode()
            sampled = Sampled(sampled.row, sampled.sample, text, sampled.tokens, sampled.finished)
        return sampled

    def take_grade(self, sampled: Sampled, grade: Future[Grade]) -> None:
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


def is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
