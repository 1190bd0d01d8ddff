"""A machine with too little memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from premem_worker.engines.transformers.engine import TransformersEngine


def hold_at_most(engine: TransformersEngine, rows: int, patch: pytest.MonkeyPatch) -> None:
    intercept(engine, patch, lambda given, _calls: len(given) > rows)


def intercept(engine: TransformersEngine, patch: pytest.MonkeyPatch, full: Callable[[torch.Tensor, int], bool]) -> None:
    """Have the embedding, which every forward pass goes through first, run out of memory."""
    embedding = engine._now().model.get_input_embeddings()
    forward, made = embedding.forward, 0

    def limited(tokens: torch.Tensor) -> torch.Tensor:
        nonlocal made
        made += 1
        if full(tokens, made):
            raise torch.OutOfMemoryError("out of memory")
        result: torch.Tensor = forward(tokens)
        return result

    patch.setattr(embedding, "forward", limited)
