"""The protocol that inference engines implement. There are two: `vllm` and `transformers`."""

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
    """An engine. It lives as long as its worker, and changes its weights for each checkpoint."""

    name: str
    continuous: bool
    """Whether a new request takes the place of the first finished one while others are still computed."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def context(self) -> int:
        """The largest number of tokens of the loaded model, prompt and answer together."""
        ...

    @property
    def produced_by(self) -> dict[str, str]:
        """Metadata of a result: the keys of `premem.payloads.results.PRODUCED_BY` without `tokenizer`."""
        ...

    @property
    def cache_bytes(self) -> int:
        """Bytes of memory for keys and values, besides the weights: reserved, or the most that is used."""
        ...

    def load(self, checkpoint: Path, *, dtype: str | None, adapter: Path | None = None) -> None:
        """Load a checkpoint, unless it is loaded already. `dtype` None: that in which it was saved.
        `adapter`: the folder of a LoRA adapter to compute beside it.

        Raises CheckpointError for a fault of the checkpoint, EngineError otherwise. After either, the engine is empty,
        and the next load starts from the beginning.
        """
        ...

    def run(
        self,
        requests: Feed | Sequence[ScoreRequest | SampleRequest],
        *,
        sampling: Sampling,
        stopped: Callable[[], bool],
    ) -> Iterator[Scored | Sampled]:
        """Yield results in the order in which they are ready. Raises Interrupted soon after `stopped` becomes true.

        A feed is taken from while the engine runs; it ends when the feed is closed and everything answered. The same requests with the same seeds give the same results on the same machine.
        """
        ...

    def close(self) -> None:
        """Give back memory and end every process of the engine."""
        ...

    def kill(self) -> None:
        """End the processes of an engine that does not answer, from another thread, so that what waits for them raises.
        An engine that computes in this process goes on, because it cannot be ended by itself."""
        ...


class EmbeddingEngine(Engine, Protocol):
    """An engine that returns hidden states, which vLLM does not while it generates."""

    def embed(self, requests: Sequence[EmbedRequest], *, stopped: Callable[[], bool]) -> Iterator[Embedded]:
        """Yield results in the order in which they are ready. Raises Interrupted soon after `stopped` becomes true."""
        ...
