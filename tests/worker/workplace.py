"""A worker inside a test, with its parts at hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

from premem.wire.bodies import GraderChoice
from premem_worker.checkpoints.chat import Chat
from premem_worker.checkpoints.located import Located
from premem_worker.lifetime.shutdown import Shutdown
from premem_worker.loop import Worker
from premem_worker.parts import Graders, Parts
from premem_worker.settings import Settings
from tests.fakes import Comparing, FakeEmbedder, FakeEngine, FakeService


class Workplace:
    """A worker with its parts at hand."""

    def __init__(
        self,
        service: FakeService,
        engine: FakeEngine | None = None,
        *,
        has_engine: bool = True,
        embeds_itself: bool = False,
        chat: Chat | None = None,
        **settings: object,
    ) -> None:
        self.service = service
        self.engine = engine or FakeEngine()
        self.engines_made = 0
        self.embedders: list[FakeEmbedder] = []
        self.graders: list[tuple[GraderChoice, Comparing]] = []
        self.tokenizers = {"/runs/other-1": "another"}
        self.overwritten: str | None = None
        self.weights = ""
        self.stamps: Iterator[int] = repeat(0)
        self.chat = chat
        self.shutdown = Shutdown()
        how = {"service": service.url, "name": "w1", "exit_when_idle": 0.3, "graders": 1, **settings}
        embedder = self.make_embedder  # each look at a method makes another object of it
        engine_parts = ("fake", embedder if embeds_itself else self.make_engine, embedder)
        parts = Parts(*(engine_parts if has_engine else (None, None, None)), self.locate, self.make_graders)
        self.worker = Worker(Settings(**how), parts, shutdown=self.shutdown)  # type: ignore[arg-type]
        self.thread = threading.Thread(target=self.worker.run, daemon=True)

    def make_engine(self) -> FakeEngine:
        self.engines_made += 1
        return self.engine

    def make_embedder(self) -> FakeEmbedder:
        self.embedders.append(FakeEmbedder())
        return self.embedders[-1]

    def locate(self, path: str, base: str | None = None) -> Located:
        stamps = {Path(path): next(self.stamps)}
        tokenizer = self.tokenizers.get(path, "usual")
        return Located(
            Path(path),
            tokenizer,
            weights=self.weights,
            stamps=stamps,
            chat=self.chat,
            overwritten=lambda: self.overwritten,
        )

    def make_graders(self, choice: GraderChoice) -> Graders:
        self.graders.append((choice, Comparing()))
        return self.graders[-1][1]

    def run(self) -> None:
        """Until no task is left."""
        assert self.worker.run() == 0

    def end(self) -> None:
        self.shutdown.request()
        self.thread.join(10)
        assert not self.thread.is_alive()
