"""What a pass has to do: which rows are scored, and which samples are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from premem.method.planning import Goal
from premem.method.sample_seeds import sample_seed
from premem.payloads.results import RowResult, decode
from premem.records import Example
from premem.wire.tasks import LeasedTask
from premem_worker.checkpoints.chat import Chat
from premem_worker.engines.feed import Feed
from premem_worker.engines.protocol import Engine
from premem_worker.engines.requests import SampleRequest, ScoreRequest
from premem_worker.passes.draws import Draws
from premem_worker.passes.prompts import Prompts


@dataclass(slots=True)
class Plan:
    """What the engine is asked for at first, and a result for every row: empty yet, known in part, or skipped."""

    task: LeasedTask
    examples: Sequence[Example]
    """The rows from task.start on."""
    requests: list[ScoreRequest | SampleRequest] = field(default_factory=list)
    results: dict[int, RowResult] = field(default_factory=dict)
    draws: Draws = field(default_factory=Draws)
    feed: Feed = field(default_factory=Feed)
    """The requests, and those that they lead to."""


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
    made = Plan(task, examples)
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


def is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
