"""One pass that embeds a task's prompts: what the model makes of a question, before any answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from premem.errors import EngineError
from premem.payloads.embeddings import Embedding
from premem.records import Example
from premem.wire.tasks import LeasedTask
from premem_worker.checkpoints.chat import Chat
from premem_worker.engines.protocol import EmbeddingEngine
from premem_worker.engines.requests import Embedded, EmbedRequest
from premem_worker.passes.plan import is_unicode
from premem_worker.passes.prompts import Prompts


@dataclass(frozen=True, slots=True)
class EmbeddingPlan:
    """What the engine is asked for, and the rows that are left out."""

    rows: int
    """All of the task's."""
    requests: list[EmbedRequest]
    skipped: dict[int, Embedding]
    """With the reason."""


def plan_embedding(
    task: LeasedTask, examples: Sequence[Example], engine: EmbeddingEngine, *, chat: Chat | None = None
) -> EmbeddingPlan:
    """Requests for the rows that fit; the others are skipped, never cut. `examples` are the rows from task.start on."""
    prompts = Prompts(task, engine.tokenizer, chat)
    made = EmbeddingPlan(len(examples), [], {})
    for row, example in enumerate(examples, start=task.start):
        prompt = prompts.prompt(example)
        tokens = prompts.tokens(prompt) if is_unicode(prompt) else None
        reason = None
        if tokens is None:
            reason = "the text is not valid Unicode (a lone surrogate)"
        elif not tokens:
            reason = "the prompt has no tokens"
        elif len(tokens) > engine.context:
            reason = f"too long for the model's context of {engine.context} tokens"
        if reason is None and tokens is not None:
            made.requests.append(EmbedRequest(row=row, tokens=tokens))
        else:
            made.skipped[row] = Embedding(row=row, vector=None, skipped=reason)
    return made


def embedded_rows(made: EmbeddingPlan, outcomes: Iterator[Embedded]) -> list[Embedding]:
    """The embeddings of a task's rows out of the engine's answers. Raises EngineError where it leaves a prompt out."""
    found = dict(made.skipped)
    lengths = {request.row: len(request.tokens) for request in made.requests}
    for embedded in outcomes:
        found[embedded.row] = Embedding(row=embedded.row, vector=embedded.vector, tokens=lengths[embedded.row])
    if len(found) != made.rows:
        raise EngineError(f"the engine left {made.rows - len(found)} prompts without an embedding")
    return list(found.values())
