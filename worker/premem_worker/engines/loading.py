"""What both engines make sure of, when a checkpoint is loaded and when something is asked of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from premem.errors import CheckpointError
from premem.tokenizer_files import SETTINGS, WHOLE, named_tokens, read_tokenizer
from premem.wire.jobs import Sampling
from premem_worker.checkpoints.tokens import check_tokenizer_is_there, files_digest
from premem_worker.engines.requests import SampleRequest, ScoreRequest

CANARY_TOKENS = 24
log = structlog.get_logger(__name__)


PLAIN = "How many apples: 12 + 305 = 317? 4 6 8 9"
UNUSUAL = "  two spaces,\ttab\n\nÄpfel für 3 €: 1,250.75; 苹果 и яблоки 🙂 naïve\n"


def load_tokenizer(folder: Path) -> Any:
    """The checkpoint's own tokenizer, as its files say: read once for as long as they stay as they are.

    Raises CheckpointError where there is none, or where it gives other tokens than its files.
    """
    check_tokenizer_is_there(folder)
    held = _Files(folder, files_digest(folder))
    try:
        return _checked(held)
    except (AttributeError, ImportError, KeyError, OSError, TypeError, ValueError) as error:
        whole = "" if (folder / WHOLE).is_file() else f"there is no {WHOLE}, and "
        raise CheckpointError(
            f"the tokenizer of {folder} cannot be loaded: {whole}transformers says: {first_line(error)}; put the "
            "tokenizer's files there that the model was trained with (tokenizer.save_pretrained)"
        ) from error


@dataclass(frozen=True, slots=True)
class _Files:
    """Those of a tokenizer: the same in the next checkpoint of a run, where it lies in another folder."""

    folder: Path = field(compare=False)
    digest: str


@functools.lru_cache(maxsize=2)
def _checked(files: _Files) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = files.folder
    if not (folder / WHOLE).is_file():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        check_keeps_text(folder, tokenizer)
        return tokenizer
    # Not AutoTokenizer: transformers 5 builds some classes anew out of the vocabulary, with what belongs to their name
    # instead of what the file says. A byte-level tokenizer under LlamaTokenizer loses its spaces so.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    own = read_tokenizer(folder)
    for text in (PLAIN, UNUSUAL, " ".join(("a", *named_tokens(folder), "b"))):
        for special in (False, True):
            got, said = tokenizer.encode(text, add_special_tokens=special), own.encode(text, add_special_tokens=special)
            if got != said.ids:
                raise CheckpointError(
                    f"transformers reads the tokenizer of {folder} otherwise than {WHOLE} says: {text!r} gives "
                    f"{parted(tokenizer, got, said.ids)}; save the tokenizer again with the one that the model was "
                    "trained with (tokenizer.save_pretrained)"
                )
    check_keeps_text(folder, tokenizer)
    return tokenizer


def parted(tokenizer: Any, one: Sequence[int], other: Sequence[int]) -> str:
    """Where two readings of a text part, for people to read."""
    place = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(one), len(other)) if place is None else place
    shown = [", ".join(map(str, ids[at : at + 4])) or "nothing" for ids in (one, other)]
    return f"the tokens {shown[0]} … instead of {shown[1]} … from its token {at + 1} on"


def check_keeps_text(folder: Path, tokenizer: Any) -> None:
    """Raises CheckpointError where spaces or digits are lost on the way to tokens and back.

    A tokenizer may write letters small, or know no foreign ones: that is what its model was trained on.
    """
    back = str(tokenizer.decode(tokenizer.encode(PLAIN, add_special_tokens=False), skip_special_tokens=True))
    lost = [named for named, characters in _KEPT.items() if _count(back, characters) < _count(PLAIN, characters)]
    if lost:
        raise CheckpointError(
            f"the tokenizer of {folder} loses {' and '.join(lost)}: {PLAIN!r} comes back as {back[:100]!r}; its files or "
            f"the tokenizer_class in {SETTINGS} are not those that the model was trained with: take them from the base "
            "model, or save the tokenizer again as a tokenizer.json (tokenizer.save_pretrained)"
        )
    back = str(tokenizer.decode(tokenizer.encode(UNUSUAL, add_special_tokens=False), skip_special_tokens=True))
    if back.strip() != UNUSUAL.strip():
        log.warning("the tokenizer does not keep every text as it is", folder=str(folder), text=UNUSUAL, back=back)


_KEPT = {"spaces": " ", "digits": "0123456789"}


def _count(text: str, characters: str) -> int:
    return sum(character in characters for character in text)


def canary(vocabulary: int) -> tuple[int, ...]:
    """A fixed sequence of token ids, spread over the vocabulary, whose log-probabilities tell whether a load worked."""
    return tuple((17 + 7919 * place) % vocabulary for place in range(min(CANARY_TOKENS, max(2, vocabulary))))


def check_vocabulary(folder: Path, tokenizer: Any, vocabulary: int) -> None:
    """An id beyond the embedding would end the process on a GPU."""
    known = max(len(tokenizer), 1 + max(tokenizer.get_vocab().values(), default=0))
    if known > vocabulary:
        raise CheckpointError(
            f"{folder} has a tokenizer of {known} tokens and a model that knows {vocabulary}: they do not belong together; "
            "where tokens were added, resize the model for them before it is trained and saved "
            "(model.resize_token_embeddings), else put the tokenizer there that it was trained with"
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
