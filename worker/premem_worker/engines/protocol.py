"""What a worker asks of an inference engine. `vllm` and `transformers` are the two that there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from premem.method.spans import Tokenizer
from premem.wire.jobs import Sampling

if TYPE_CHECKING:
    from premem_worker.engines.feed import Feed


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Ask for the log-probability of the tokens from `target_start` on, given those before."""

    row: int
    tokens: tuple[int, ...]
    target_start: int
    """At least 1: the first token of a text has no probability."""
    model: int = 0
    """Which of the models that the engine holds is asked: 0: the one that was loaded; another: see MixingEngine."""


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """Ask for one answer per seed."""

    row: int
    tokens: tuple[int, ...]
    """Of the prompt."""
    seeds: tuple[int, ...]
    first: int = 0
    """Which sample of the example the first seed stands for."""
    model: int = 0
    """As in ScoreRequest."""


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Ask for the mean last hidden state over the tokens of a prompt."""

    row: int
    tokens: tuple[int, ...]


def answers_to(request: ScoreRequest | SampleRequest) -> int:
    """How many an engine gives to a request."""
    return len(request.seeds) if isinstance(request, SampleRequest) else 1


@dataclass(frozen=True, slots=True)
class Embedded:
    row: int
    vector: tuple[float, ...]
    """In float32."""


@dataclass(frozen=True, slots=True)
class Scored:
    row: int
    log_likelihood: float
    """Summed over the target's tokens, in nats, from a float32 log-softmax."""
    tokens: int
    prompt_tokens: int = field(default=0, compare=False, repr=False)
    """Of the whole request."""
    cached_tokens: int = field(default=0, compare=False, repr=False)
    """Of these, tokens that the engine had read before and did not read again."""
    model: int = 0
    """Of the request."""


@dataclass(frozen=True, slots=True)
class Sampled:
    row: int
    sample: int
    """Which sample of the example, from 0."""
    text: str
    """Without the stop string."""
    tokens: int
    finished: bool
    """True: a stop string or the end-of-text token; False: the token limit."""
    prompt_tokens: int = field(default=0, compare=False, repr=False)
    cached_tokens: int = field(default=0, compare=False, repr=False)
    """As in Scored."""
    model: int = 0


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


class MixingEngine(Engine, Protocol):
    """An engine that answers with several adapters of one base at a time."""

    def beside(self, checkpoint: Path, *, dtype: str | None, adapter: Path | None, keep: Set[int]) -> int | None:
        """Hold this one, too, and the models to `keep`, while whatever is asked is being answered. Returns the number that
        a request names it by; None: there is no place, or it is no adapter of the base that is loaded, or has too high a
        rank.

        Raises CheckpointError and EngineError, as `load` does, but what the engine holds stays as it is.
        """
        ...


class EmbeddingEngine(Engine, Protocol):
    """An engine that gives hidden states away; vLLM gives none while it generates."""

    def embed(self, requests: Sequence[EmbedRequest], *, stopped: Callable[[], bool]) -> Iterator[Embedded]:
        """Results in the order in which they are ready. Raises Interrupted soon after `stopped` turns true."""
        ...
