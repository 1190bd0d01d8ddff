"""An engine in the hands of a pass, which asks it and leaves everything else to whoever lent it."""

from __future__ import annotations

from pathlib import Path

from premem.method.spans import Tokenizer
from premem_worker.engines.protocol import Engine


class Lent:
    """All of the Engine protocol but `run`: what the engine says of itself is passed on, and it is neither loaded nor
    closed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name
        self.continuous = engine.continuous

    @property
    def tokenizer(self) -> Tokenizer:
        return self._engine.tokenizer

    @property
    def context(self) -> int:
        return self._engine.context

    @property
    def produced_by(self) -> dict[str, str]:
        return self._engine.produced_by

    @property
    def cache_bytes(self) -> int:
        return self._engine.cache_bytes

    def load(self, checkpoint: Path, *, dtype: str | None, adapter: Path | None = None) -> None:
        raise RuntimeError("an engine that is lent to a pass keeps its checkpoint")

    def close(self) -> None:
        raise RuntimeError("an engine that is lent to a pass is not closed by it")

    def kill(self) -> None:
        self._engine.kill()
