"""What a worker works with: one engine and one pool of graders, kept from task to task, and the watchdog around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar, cast

import structlog

from premem.errors import EngineError
from premem.wire.bodies import GraderChoice
from premem.wire.tasks import LeasedTask
from premem_worker.checkpoints.located import Located
from premem_worker.engines.protocol import EmbeddingEngine, Engine
from premem_worker.lifetime.watchdog import Watch, watched
from premem_worker.parts import Graders, Parts
from premem_worker.passes.stream import Stream
from premem_worker.settings import Settings

AnyEngine = TypeVar("AnyEngine", bound=Engine)

log = structlog.get_logger(__name__)


class Equipment:
    """One engine at a time, since a GPU holds one, and graders of one choice. Both are made when they are first needed."""

    def __init__(self, parts: Parts, settings: Settings, *, last_resort: Callable[[str], None]) -> None:
        """`last_resort` ends the process where a silent engine cannot be killed: see `watched`."""
        self._parts = parts
        self._settings = settings
        self._last_resort = last_resort
        self._engine: Engine | None = None
        self._made_by: object = None
        self._graders: tuple[GraderChoice, Graders] | None = None
        self.stream: Stream | None = None
        """Of the passes that sample and score with the checkpoint in memory."""
        self.loaded: str | None = None
        """The checkpoint in memory, as its task named it."""
        self.device: str | None = None
        """What the engine computes on, once it has loaded a checkpoint."""

    def streaming(self, task: LeasedTask, located: Located) -> Stream:
        """A fresh stream from the engine that samples and scores, with the task's checkpoint.

        Raises CheckpointError, EngineError.
        """
        self.stream = Stream(self._load(task, located, self._parts.make_engine))
        return self.stream

    def embedding(self, task: LeasedTask, located: Located) -> EmbeddingEngine:
        """The engine that embeds, with the task's checkpoint. Raises CheckpointError, EngineError."""
        return self._load(task, located, self._parts.make_embedder)

    def graders(self, choice: GraderChoice) -> Graders:
        if self._graders is not None and self._graders[0] != choice:
            self.close_graders()
        if self._graders is None:
            self._graders = (choice, self._parts.make_graders(choice))
        return self._graders[1]

    @contextmanager
    def watched_pass(self) -> Iterator[Watch]:
        """Watch over the engine in the middle of a pass, from the first sign of life that the pass tells."""
        with self._watched("in the middle of a pass", seconds=self._settings.engine_seconds) as watch:
            watch.rest()
            yield watch

    def end_stream(self) -> None:
        """Whatever is left of it."""
        stream, self.stream = self.stream, None
        if stream is None:
            return
        try:
            stream.abandon()
        except Exception:
            log.exception("the engine did not end what it was asked")
            self.close_engine()

    def close_engine(self) -> None:
        self.end_stream()
        engine, self._engine, self.loaded = self._engine, None, None
        if engine is not None:
            try:
                engine.close()
            except Exception:  # the engine is forgotten all the same, and the next task gets a new one
                log.exception("the engine did not close")

    def close_graders(self) -> None:
        graders, self._graders = self._graders, None
        if graders is not None:
            graders[1].close()

    def close(self) -> None:
        """End every process and give back memory."""
        self.close_engine()
        self.close_graders()

    def _load(self, task: LeasedTask, located: Located, making: Callable[[], AnyEngine] | None) -> AnyEngine:
        """The engine of that making with the task's checkpoint. Another one makes room first."""
        if making is None:
            raise EngineError("this worker has no engine and can only grade anew what others sampled")
        self.end_stream()
        if self._engine is not None and self._made_by is not making:
            self.close_engine()
        with self._watched("while a checkpoint was loaded", seconds=self._settings.load_seconds):
            if self._engine is None:
                self._engine, self._made_by = making(), making
            engine = cast(AnyEngine, self._engine)
            self.loaded = None  # until it is, again
            engine.load(located.folder, dtype=task.dtype, adapter=located.adapter)
        self.loaded, self.device = task.checkpoint.path, engine.produced_by["device"]
        return engine

    def _watched(self, what: str, *, seconds: float) -> AbstractContextManager[Watch]:
        return watched(what, seconds=seconds, kill=self._kill_engine, last_resort=self._last_resort)

    def _kill_engine(self) -> None:
        engine = self._engine
        if engine is not None:
            engine.kill()
