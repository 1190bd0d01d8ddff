"""How the transformers engine scores: log-probabilities of given tokens, a batch at a time, right padded.

B sequences in a batch, T tokens each, V tokens in the vocabulary, N positions whose logits are wanted.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

from premem_worker.engines.requests import EmbedRequest, Scored, ScoreRequest

Prompted = TypeVar("Prompted", ScoreRequest, EmbedRequest)
LOGITS = 2**25
"""Logits held at once, in float32 128 MiB: with 128,000 tokens in the vocabulary those of 262 positions."""


def scoring_batches(requests: Sequence[Prompted], *, batch_tokens: int) -> list[list[Prompted]]:
    """Neighbours in length, so that little is padded; `batch_tokens` bounds B × T, beyond a single request."""
    batches: list[list[Prompted]] = []
    for request in sorted(requests, key=lambda request: len(request.tokens)):
        if not batches or (len(batches[-1]) + 1) * len(request.tokens) > batch_tokens:
            batches.append([])
        batches[-1].append(request)
    return batches


def score_batch(model: Any, batch: Sequence[ScoreRequest], device: torch.device) -> Iterator[tuple[int, Scored]]:
    """Each request's place in the batch and its score."""
    first = min(request.target_start for request in batch)
    longest = max(len(request.tokens) for request in batch)
    tokens_BT = torch.zeros(len(batch), longest, dtype=torch.long)
    for place, request in enumerate(batch):
        tokens_BT[place, : len(request.tokens)] = torch.tensor(request.tokens)
    values_BN = log_probabilities(model, tokens_BT.to(device), first=first).double().cpu()
    for place, request in enumerate(batch):
        wanted = values_BN[place, request.target_start - first : len(request.tokens) - first]
        yield (
            place,
            Scored(
                row=request.row,
                log_likelihood=float(wanted.sum()),
                tokens=len(wanted),
                prompt_tokens=len(request.tokens),
            ),
        )


@torch.inference_mode()
def log_probabilities(model: Any, tokens_BT: Tensor, *, first: int = 1) -> Tensor:
    """Of each token from place `first` on, given those before it: B × (T - first), in float32.

    No attention mask: what stands behind a token, padding included, has no part in its probability. Long sequences go
    through the model in pieces, so that the logits of one piece are all that is held.
    """
    count, length = tokens_BT.shape
    start, stop = first - 1, length - 1  # the place before a token predicts it
    step = max(1, LOGITS // (count * _vocabulary(model)))
    cuts = [0, *range(start + step, stop, step), stop]
    cache, pieces = None, []
    for begin, end in pairwise(cuts):
        wanted = end - max(start, begin)
        out = model(
            input_ids=tokens_BT[:, begin:end],
            past_key_values=cache,
            use_cache=len(cuts) > 2,
            **only_last(model, wanted),
        )
        cache = out.past_key_values
        targets_BN = tokens_BT[:, end - wanted + 1 : end + 1]
        pieces.append(_of_targets(out.logits[:, -wanted:], targets_BN))
    return torch.cat(pieces, dim=1)


def _of_targets(logits_BNV: Tensor, targets_BN: Tensor) -> Tensor:
    values_BN = []
    # Row by row: in float32 the logits of a whole batch would take several times their room.
    for logits_NV, targets_N in zip(logits_BNV, targets_BN, strict=True):
        logits_NV = logits_NV.float()
        chosen_N = logits_NV.gather(1, targets_N[:, None]).squeeze(1)
        values_BN.append(chosen_N - logits_NV.logsumexp(dim=-1))
    return torch.stack(values_BN)


def only_last(model: Any, places: int) -> dict[str, int]:
    """Arguments that spare a model the logits of the places before; those that do not know them give them all."""
    return {"logits_to_keep": places} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}


def _vocabulary(model: Any) -> int:
    return int(model.get_output_embeddings().weight.shape[0])
