"""How the transformers engine embeds: mean last hidden states of prompts, a batch at a time, right padded.

B prompts in a batch, T tokens each, H hidden dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from premem_worker.engines.requests import Embedded, EmbedRequest


@torch.inference_mode()
def embed_batch(model: Any, batch: Sequence[EmbedRequest], device: torch.device) -> Iterator[tuple[int, Embedded]]:
    """Each prompt's place in the batch and its embedding.

    No attention mask: what stands behind a token, padding included, has no part in its hidden state.
    """
    lengths = [len(request.tokens) for request in batch]
    tokens_BT = torch.zeros(len(batch), max(lengths), dtype=torch.long)
    for place, request in enumerate(batch):
        tokens_BT[place, : lengths[place]] = torch.tensor(request.tokens)
    hidden_BTH = model.base_model(input_ids=tokens_BT.to(device), use_cache=False).last_hidden_state
    for place, request in enumerate(batch):
        mean_H = hidden_BTH[place, : lengths[place]].float().mean(dim=0)
        if not bool(mean_H.isfinite().all()):
            raise FloatingPointError("the model's hidden states are no numbers")
        yield place, Embedded(row=request.row, vector=tuple(mean_H.tolist()))
