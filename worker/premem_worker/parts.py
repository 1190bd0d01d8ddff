"""What a worker is put together from."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from premem.grading.pool import GradingPool
from premem.wire.bodies import GraderChoice
from premem_worker.checkpoints import adapters, fingerprints, hub, remote
from premem_worker.checkpoints import folder as checkpoints
from premem_worker.checkpoints.cache import Cache
from premem_worker.checkpoints.chat import Chat
from premem_worker.checkpoints.located import Located
from premem_worker.engines.choose import check_installed, engine_name, make_embedder, make_engine
from premem_worker.engines.protocol import EmbeddingEngine, Engine
from premem_worker.passes.scoring import Grading
from premem_worker.settings import Settings


class Graders(Grading, Protocol):
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """Each is called only while a heartbeat runs, since each may take minutes."""

    engine_name: str | None
    """None: no engine, only graders."""
    make_engine: Callable[[], Engine] | None
    make_embedder: Callable[[], EmbeddingEngine] | None
    """The same function where the engine itself embeds."""
    locate: Callable[[str, str | None], Located]
    """A checkpoint by its path, and the base of adapters where the job names one. It makes it local, and may take as long as
    that takes. Raises CheckpointError for a checkpoint that cannot be used."""
    make_graders: Callable[[GraderChoice], Graders]


def real_parts(settings: Settings) -> Parts:
    """The engines and graders themselves; nothing heavy is imported before it is called for.

    Raises EngineError where the engine is not installed: such a worker would only make tasks fail.
    """
    name = None if settings.engine == "none" else engine_name(settings.engine)
    if name is not None:
        check_installed(name)

    cache = Cache(settings.cache, limit=settings.cache_bytes)
    located = threading.Lock()

    def locate(path: str, base: str | None) -> Located:
        adapter: Path | None = None
        weights: str | None = None
        with located:  # the cache is one thread's at a time
            folder = find(path)
            if adapters.is_adapter(folder):
                pair = adapters.paired(folder, base=base, locate=find, max_rank=settings.max_lora_rank)
                weights = fingerprints.of_adapted(pair.base, pair.adapter)
                if computes_beside(settings) and adapters.fits_beside(pair):
                    folder, adapter = pair.base, pair.adapter
                else:
                    folder = adapters.merged(pair, cache=cache)
        before = {one: checkpoints.stamp(one) for one in (folder, adapter) if one is not None}
        model = checkpoints.model_family(checkpoints.inspect(folder))
        weights = weights or fingerprints.of_model(folder)  # before all of the disk is asked for
        checkpoints.read_ahead(folder)

        def overwritten() -> str | None:
            found = (checkpoints.overwritten(one, stamp) for one, stamp in before.items())
            return next((name for name in found if name is not None), None)

        return Located(
            folder=folder,
            tokenizer=checkpoints.tokenizer_fingerprint(folder),
            model=model,
            weights=weights,
            adapter=adapter,
            stamps=before,
            chat=Chat.read(adapters.spoken(adapter, folder) if adapter else folder, model=folder),
            overwritten=overwritten,
        )

    def find(path: str) -> Path:
        if remote.is_remote(path):
            return remote.fetched(path, stores=settings.checkpoint_stores, cache=cache)
        return checkpoints.resolve(path, roots=settings.checkpoint_roots, hub=from_hub if settings.hub else None)

    def from_hub(repo: str, revision: str | None) -> Path:
        return hub.fetched(repo, revision, cache=cache, refs=settings.cache)

    def make_graders(choice: GraderChoice) -> Graders:
        return GradingPool(choice, processes=settings.graders)

    if name is None:
        return Parts(None, None, None, locate, make_graders)

    def transformers() -> EmbeddingEngine:
        return make_embedder(batch_rows=settings.max_sequences)

    def vllm() -> Engine:
        return make_engine(
            "vllm", max_sequences=settings.max_sequences, gpu_memory_utilization=settings.gpu_memory_utilization
        )

    return Parts(name, vllm if name == "vllm" else transformers, transformers, locate, make_graders)


def computes_beside(settings: Settings) -> bool:
    """Whether adapters are computed beside their base, which vLLM does, and which only a GPU does fast."""
    if settings.engine == "none" or engine_name(settings.engine) != "vllm":
        return False
    if settings.adapters != "auto":
        return settings.adapters == "beside"
    import torch

    return torch.cuda.is_available()
