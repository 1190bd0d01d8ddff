"""The chat template of a checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from premem.errors import CheckpointError
from premem.wire.jobs import Checkpoint
from premem_worker.checkpoints import folder as checkpoints


@dataclass(frozen=True, slots=True)
class Chat:
    """How a checkpoint writes a conversation, by its own files."""

    template: str
    """In Jinja."""
    ends: frozenset[int]
    """The tokens at which its answers end, beside the tokenizer's own."""

    @classmethod
    def read(cls, folder: Path, *, model: Path) -> Chat | None:
        """Out of the folder of the tokenizer and that of the model. None: there is no chat template."""
        template = checkpoints.chat_template(folder)
        return None if template is None else cls(template, checkpoints.end_tokens(model))

    def fingerprint(self, tokenizer: str) -> str:
        """That of a tokenizer, the chat template counted in: two checkpoints must share what they are asked."""
        return hashlib.sha256(f"{tokenizer}\0{self.template}".encode()).hexdigest()


def without_chat(checkpoint: Checkpoint) -> CheckpointError:
    return CheckpointError(
        f"checkpoint {checkpoint.name!r} ({checkpoint.path}) has no chat template, and the job's template is a chat: save "
        "the tokenizer with its template there (chat_template.jinja, or chat_template in tokenizer_config.json), or post "
        "the job with chat false"
    )
