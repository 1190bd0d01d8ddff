"""A checkpoint where it lies on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from premem.wire.jobs import Checkpoint
from premem_worker.checkpoints.chat import Chat, without_chat


@dataclass(frozen=True, slots=True)
class Located:
    """A checkpoint that this worker can and may read."""

    folder: Path
    """Of an adapter that is to answer beside its base: the base's."""
    tokenizer: str
    """Fingerprint."""
    model: str = ""
    """Family: architecture and number of parameters."""
    weights: str = ""
    """Fingerprint, of an adapter that of it on its base."""
    adapter: Path | None = None
    """Its folder, where it is not merged."""
    stamps: Mapping[Path, object] = field(default_factory=dict)
    """Of its folders, when it was located: what changes where a file in there is written anew."""
    chat: Chat | None = None
    """None: it has no chat template."""
    overwritten: Callable[[], str | None] = lambda: None
    """Which of its files was written anew since it was located; None: none was."""

    def is_same(self, other: Located) -> bool:
        """Whether what was loaded for the one is what the other one would load."""
        mine, others = ((one.folder, one.adapter, one.stamps, one.weights) for one in (self, other))
        return mine == others

    def chatting(self, checkpoint: Checkpoint) -> Located:
        """The same for a job that asks through the chat template. Raises CheckpointError where there is none."""
        if self.chat is None:
            raise without_chat(checkpoint)
        return replace(self, tokenizer=self.chat.fingerprint(self.tokenizer))
