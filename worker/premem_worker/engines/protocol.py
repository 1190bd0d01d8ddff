"""What a worker asks of an inference engine. `vllm` and `transformers` are the two that there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from premem.method.spans import Tokenizer
from premem.wire.jobs import Sampling
from premem_worker.engines.requests import Embedded, EmbedRequest, Sampled, SampleRequest, Scored, ScoreRequest

if TYPE_CHECKING:
    from premem_worker.engines.feed import Feed


class Engine(Protocol):
    """One engine lives as long as its worker and changes weights under itself."""

    name: str
    continuous: bool
    """Whether a request that comes while others are worked on takes the place of the first one that is done."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def context(self) -> int:
        """The most tokens that the loaded model takes, prompt and answer together."""
        ...

    @property
    def produced_by(self) -> dict[str, str]:
        """For a result's metadata: the keys of `premem.payloads.results.PRODUCED_BY`, `tokenizer` left out."""
        ...

    @property
    def cache_bytes(self) -> int:
        """Of memory for keys and values, beside the weights: reserved, or taken at most."""
        ...

    def load(self, checkpoint: Path, *, dtype: str | None, adapter: Path | None = None) -> None:
        """Make this checkpoint the one that answers; a no-op where it is. `dtype` None: what it was saved in.
        `adapter`: the folder of a LoRA adapter that is to answer with it.

        Raises CheckpointError where the fault lies in the checkpoint, EngineError otherwise. After either
        the engine holds nothing, and the next load starts afresh.
        """
        ...

    def run(
        self,
        requests: Feed | Sequence[ScoreRequest | SampleRequest],
        *,
        sampling: Sampling,
        stopped: Callable[[], bool],
    ) -> Iterator[Scored | Sampled]:
        """Results in the order in which they are ready. Raises Interrupted soon after `stopped` turns true.

        A feed is taken from while the engine runs; it ends when the feed is closed and everything answered. The same requests with the same seeds give the same results on the same machine.
        """
        ...

    def close(self) -> None:
        """Give back memory and end every process of the engine."""
        ...

    def kill(self) -> None:
        """From another thread, while the engine does not answer: end its processes at once, so that what waits for
        them raises. What computes in this process cannot be ended by itself, and goes on."""
        ...


class EmbeddingEngine(Engine, Protocol):
    """An engine that gives hidden states away; vLLM gives none while it generates."""

    def embed(self, requests: Sequence[EmbedRequest], *, stopped: Callable[[], bool]) -> Iterator[Embedded]:
        """Results in the order in which they are ready. Raises Interrupted soon after `stopped` turns true."""
        ...
