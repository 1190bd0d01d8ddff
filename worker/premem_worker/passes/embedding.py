"""One pass that embeds a task's prompts: what the model makes of a question, before any answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from premem.errors import EngineError
from premem.payloads.embeddings import Embedding, encode
from premem.payloads.results import WEIGHTS
from premem.records import Example
from premem.wire.tasks import LeasedTask
from premem_worker.engines.protocol import EmbeddingEngine, EmbedRequest
from premem_worker.passes.prompts import Chat, Prompts
from premem_worker.passes.scoring import is_unicode


def run_embedding(
    task: LeasedTask,
    examples: Sequence[Example],
    engine: EmbeddingEngine,
    *,
    tokenizer_fingerprint: str,
    model: str = "",
    weights: str = "",
    chat: Chat | None = None,
    stopped: Callable[[], bool],
) -> bytes:
    """The result of one task, whose checkpoint is loaded, as premem.payloads.embeddings encodes it.

    `examples` are the rows from task.start on. Raises Interrupted soon after `stopped` turns true, CheckpointError
    where the model's numbers are none, EngineError where the engine leaves a prompt out.
    """
    prompts = Prompts(task, engine.tokenizer, chat)
    requests, found = [], {}
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
            requests.append(EmbedRequest(row=row, tokens=tokens))
        else:
            found[row] = Embedding(row=row, vector=None, skipped=reason)
    lengths = {request.row: len(request.tokens) for request in requests}
    for embedded in engine.embed(requests, stopped=stopped):
        found[embedded.row] = Embedding(row=embedded.row, vector=embedded.vector, tokens=lengths[embedded.row])
    if len(found) != len(examples):
        raise EngineError(f"the engine left {len(examples) - len(found)} prompts without an embedding")
    made_by = {**engine.produced_by, "tokenizer": tokenizer_fingerprint, "model": model, WEIGHTS: weights}
    return encode(list(found.values()), produced_by=made_by)
