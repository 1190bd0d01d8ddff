"""A checkpoint on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from premem.wire.jobs import Checkpoint
from premem_worker.checkpoints.chat import Chat, without_chat


@dataclass(frozen=True, slots=True)
class Located:
    """A checkpoint that this worker can and may read, with what is known about it."""

    folder: Path
    """The folder to load; for an adapter beside its base, that of the base."""
    tokenizer: str
    """Fingerprint."""
    model: str = ""
    """The model's family: architecture and number of parameters."""
    weights: str = ""
    """Fingerprint of the weights; for an adapter, together with its base."""
    adapter: Path | None = None
    """The folder of an adapter that is not merged."""
    stamps: Mapping[Path, object] = field(default_factory=dict)
    """State of its folders when it was located. It changes when a file is written again."""
    chat: Chat | None = None
    """None: it has no chat template."""
    overwritten: Callable[[], str | None] = lambda: None
    """A file that was written again since the checkpoint was located. None: none was."""

    def is_same(self, other: Located) -> bool:
        """Whether this and another checkpoint load the same files."""
        mine, others = ((one.folder, one.adapter, one.stamps, one.weights) for one in (self, other))
        return mine == others

    def chatting(self, checkpoint: Checkpoint) -> Located:
        """The checkpoint for a job that uses the chat template. Raises CheckpointError if it has none."""
        if self.chat is None:
            raise without_chat(checkpoint)
        return replace(self, tokenizer=self.chat.fingerprint(self.tokenizer))
