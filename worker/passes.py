"""One pass over a task's rows: render, tokenize, score and sample, grade, and encode what the service takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass, field
from typing import Protocol

from premem.copying import similarity
from premem.errors import CheckpointError, EngineError, Interrupted
from premem.records import Answer, Example, Grade
from premem.results import RowResult, encode
from premem.seeds import sample_seed
from premem.wire_tasks import LeasedTask
from worker.engines import Engine, Sampled, SampleRequest, Scored, ScoreRequest
from worker.spans import closing_tokens, prompt_tokens, split_target


class Grading(Protocol):
    """The part of premem.grading.pool.GradingPool that is used here."""

    def submit(self, reference: str, answer: str) -> Future[Grade]: ...


@dataclass(slots=True)
class Plan:
    """What the engine is asked for, and a result for every row, empty yet or skipped with its reason."""

    requests: list[ScoreRequest | SampleRequest] = field(default_factory=list)
    results: dict[int, RowResult] = field(default_factory=dict)


def run_pass(
    task: LeasedTask,
    examples: Sequence[Example],
    engine: Engine,
    *,
    grading: Grading,
    tokenizer_fingerprint: str,
    model: str = "",
    stopped: Callable[[], bool],
) -> bytes:
    """The result of one task, whose checkpoint is loaded, as premem.results encodes it.

    `model` is the checkpoint's family. `examples` are the rows from task.start on. Raises Interrupted soon after `stopped` turns true, CheckpointError
    where the model's numbers are none, EngineError where the engine leaves a request unanswered.
    """
    made = plan(task, examples, engine)
    collected = _Collected(task, examples, made)
    grades: dict[tuple[int, int], Future[Grade]] = {}
    outcomes = engine.run(made.requests, sampling=task.sampling, stopped=stopped)
    try:
        for outcome in outcomes:
            if isinstance(outcome, Scored):
                collected.take_score(outcome)
            else:
                sampled = collected.take_sample(outcome)
                reference = examples[sampled.row - task.start].reference
                grades[sampled.row, sampled.sample] = grading.submit(reference, sampled.text)
            if stopped():
                raise Interrupted("stopped in the middle of a pass")
        collected.check_complete()
        wait_for_all(grades.values(), stopped)
    finally:
        if isinstance(outcomes, Generator):
            outcomes.close()  # no request may be left running when the next weights come
        for grade in grades.values():
            grade.cancel()  # no effect on those that are done
    rows = collected.graded({key: grade.result() for key, grade in grades.items()})
    return encode(rows, produced_by={**engine.produced_by, "tokenizer": tokenizer_fingerprint, "model": model})


def plan(task: LeasedTask, examples: Sequence[Example], engine: Engine) -> Plan:
    """Requests for the rows that fit; the others are skipped, never cut.

    An example's scoring stands before its sampling, which then finds the prompt in the engine's cache.
    """
    made = Plan()
    closing = closing_tokens(engine.tokenizer)
    for row, example in enumerate(examples, start=task.start):
        score, sample, result = _plan_row(task, row, example, engine, closing)
        made.results[row] = result
        if result.skipped is None:
            made.requests += [request for request in (score, sample) if request is not None]
    return made


def _plan_row(
    task: LeasedTask, row: int, example: Example, engine: Engine, closing: int
) -> tuple[ScoreRequest | None, SampleRequest | None, RowResult]:
    prompt = rendered_prompt(task, example)
    target = task.template.render_target(example.trace) if task.kind == "train" else ""
    result = RowResult(row=row)
    column = task.perturbation and task.perturbation.question_column
    if column and not example.question:
        result.skipped = f"the column {column!r} holds no text"
        return None, None, result
    if not is_unicode(prompt + target + example.reference):
        result.skipped = "the text is not valid Unicode (a lone surrogate)"
        return None, None, result
    tokens = prompt_tokens(engine.tokenizer, prompt, closing=closing)
    if not tokens:
        result.skipped = "the prompt has no tokens"
    elif len(tokens) + task.sampling.max_tokens > engine.context:
        result.skipped = f"too long for the model's context: {engine.context} tokens do not hold the prompt and {task.sampling.max_tokens} tokens of an answer"
    sample = SampleRequest(row=row, tokens=tokens, seeds=_seeds(task, example))
    if task.kind != "train" or result.skipped is not None:
        return None, sample, result
    span = split_target(engine.tokenizer, prompt, target, closing=closing)
    if span.target_tokens == 0:
        result.skipped = "the target has no tokens"
    elif len(span.tokens) > engine.context:
        result.skipped = (
            f"too long for the model's context: {engine.context} tokens do not hold the prompt and its target"
        )
    else:
        result.target_tokens, result.span_shifted = span.target_tokens, span.shifted
    return ScoreRequest(row=row, tokens=span.tokens, target_start=span.target_start), sample, result


def rendered_prompt(task: LeasedTask, example: Example) -> str:
    change = task.perturbation
    if change is None:
        return task.template.render_prompt(example.question)
    question = change.question_prefix + example.question + change.question_suffix
    return task.template.render_prompt(question) + change.answer_prefix


def _seeds(task: LeasedTask, example: Example) -> tuple[int, ...]:
    # The baseline of the perturbed answers is a fresh draw: with the seeds of the score it would be that draw again.
    split = f"{task.kind} {task.variant}" if task.kind == "perturbed" else task.kind
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
        self._samples_due = {
            (request.row, sample)
            for request in made.requests
            if isinstance(request, SampleRequest)
            for sample in range(len(request.seeds))
        }
        self._samples: dict[tuple[int, int], Sampled] = {}

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
        if key not in self._samples_due:
            raise EngineError(f"the engine answered sample {sampled.sample} of row {sampled.row} twice or unasked")
        self._samples_due.remove(key)
        if not is_unicode(sampled.text):
            text = sampled.text.encode("utf-8", "replace").decode()
            sampled = Sampled(sampled.row, sampled.sample, text, sampled.tokens, sampled.finished)
        self._samples[key] = sampled
        return sampled

    def check_complete(self) -> None:
        if self._scores_due or self._samples_due:
            raise EngineError(
                f"the engine ended with {len(self._scores_due)} scores and {len(self._samples_due)} samples unanswered"
            )

    def graded(self, grades: dict[tuple[int, int], Grade]) -> list[RowResult]:
        for key in sorted(self._samples):
            sampled = self._samples[key]
            result = self._results[sampled.row]
            result.answers.append(
                Answer(text=sampled.text, grade=grades[key], tokens=sampled.tokens, finished=sampled.finished)
            )
            if self._task.kind == "train":
                trace = self._examples[sampled.row - self._task.start].trace
                result.similarities.append(similarity(sampled.text, trace))
        return list(self._results.values())

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
