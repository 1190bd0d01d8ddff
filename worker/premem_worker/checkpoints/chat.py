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
    """How a checkpoint writes a conversation, from its own files."""

    template: str
    """The chat template, in Jinja."""
    ends: frozenset[int]
    """The tokens at which its answers end, besides those of the tokenizer."""

    @classmethod
    def read(cls, folder: Path, *, model: Path) -> Chat | None:
        """Read it from the folders of the tokenizer and of the model. None: there is no chat template."""
        template = checkpoints.chat_template(folder)
        return None if template is None else cls(template, checkpoints.end_tokens(model))

    def fingerprint(self, tokenizer: str) -> str:
        """The fingerprint of tokenizer and chat template, which the checkpoints of a job must share."""
        return hashlib.sha256(f"{tokenizer}\0{self.template}".encode()).hexdigest()


def without_chat(checkpoint: Checkpoint) -> CheckpointError:
    return CheckpointError(
        f"checkpoint {checkpoint.name!r} ({checkpoint.path}) has no chat template, and the job's template is a chat: save "
        "the tokenizer with its template there (chat_template.jinja, or chat_template in tokenizer_config.json), or post "
        "the job with chat false"
    )
