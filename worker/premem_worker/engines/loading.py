"""What both engines make sure of, when a checkpoint is loaded and when something is asked of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from premem.errors import CheckpointError
from premem.wire.jobs import Sampling
from premem_worker.engines.requests import SampleRequest, ScoreRequest

CANARY_TOKENS = 24


def load_tokenizer(folder: Path) -> Any:
    """The checkpoint's own tokenizer. Raises CheckpointError where there is none that works."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (AttributeError, ImportError, KeyError, OSError, TypeError, ValueError) as error:
        raise CheckpointError(f"the tokenizer of {folder} cannot be loaded: {first_line(error)}") from error


def canary(vocabulary: int) -> tuple[int, ...]:
    """A fixed sequence of token ids, spread over the vocabulary, whose log-probabilities tell whether a load worked."""
    return tuple((17 + 7919 * place) % vocabulary for place in range(min(CANARY_TOKENS, max(2, vocabulary))))


def check_vocabulary(folder: Path, tokenizer: Any, vocabulary: int) -> None:
    """An id beyond the embedding would end the process on a GPU."""
    if len(tokenizer) > vocabulary:
        raise CheckpointError(
            f"{folder} has a tokenizer of {len(tokenizer)} tokens and a model that knows {vocabulary}: "
            "they do not belong together"
        )


def check_finite(folder: Path, log_probabilities: Sequence[float]) -> None:
    if not all(math.isfinite(value) for value in log_probabilities):
        raise CheckpointError(f"{folder} gives log-probabilities that are no numbers: look for NaN or infinite weights")


class DoesNotFit(ValueError):
    """A request that the model's context does not hold: the mistake of whoever asks."""


def check_requests(requests: Sequence[ScoreRequest | SampleRequest], sampling: Sampling, *, context: int) -> None:
    """Raises DoesNotFit: whoever asks has to leave out what does not fit, for an engine never cuts."""
    for request in requests:
        if isinstance(request, ScoreRequest):
            fits = 1 <= request.target_start < len(request.tokens) <= context
        else:
            fits = 1 <= len(request.tokens) <= context - sampling.max_tokens
        if not fits:
            raise DoesNotFit(f"row {request.row} does not fit into the model's context of {context} tokens")


_TOO_LITTLE = (
    "out of memory",  # CUDA
    "not enough memory",  # torch on a CPU, in a plain RuntimeError
    "can't allocate memory",
    "cannot allocate memory",
    "available memory for the cache blocks",  # vLLM
    "desired gpu memory utilization",  # vLLM
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it, or what it was raised from, says that memory lacked, on a GPU or here."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or any(words in str(cause).lower() for words in _TOO_LITTLE):
            return True
        cause = cause.__cause__
    return False


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else type(error).__name__
