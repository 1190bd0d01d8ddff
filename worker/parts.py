"""What a worker is put together from."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from premem.wire import GraderChoice
from worker.engines import Engine
from worker.passes import Grading
from worker.settings import EngineChoice, Settings


@dataclass(frozen=True, slots=True)
class Located:
    """A checkpoint that this worker can and may read."""

    folder: Path
    tokenizer: str
    """Fingerprint."""


class Graders(Grading, Protocol):
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """Each is called only while a heartbeat runs, since each may take minutes."""

    engine_name: str
    make_engine: Callable[[], Engine]
    locate: Callable[[str], Located]
    """Raises CheckpointError for a checkpoint that cannot be used."""
    make_graders: Callable[[GraderChoice], Graders]


def real_parts(settings: Settings) -> Parts:
    """The engines and graders themselves; nothing heavy is imported before it is called for."""
    engine_name = chosen_engine(settings.engine)

    def make_engine() -> Engine:
        if engine_name == "vllm":
            from worker.engines.vllm import VllmEngine

            return VllmEngine()
        from worker.engines.transformers import TransformersEngine

        return TransformersEngine()

    def locate(path: str) -> Located:
        from worker import checkpoints

        folder = checkpoints.resolve(path, roots=settings.checkpoint_roots, hub=settings.hub)
        checkpoints.inspect(folder)
        return Located(folder=folder, tokenizer=checkpoints.tokenizer_fingerprint(folder))

    def make_graders(choice: GraderChoice) -> Graders:
        from premem.grading.pool import GradingPool

        return GradingPool(choice, processes=settings.graders)

    return Parts(engine_name=engine_name, make_engine=make_engine, locate=locate, make_graders=make_graders)


def chosen_engine(choice: EngineChoice) -> Literal["vllm", "transformers"]:
    if choice != "auto":
        return choice
    return "vllm" if importlib.util.find_spec("vllm") else "transformers"
