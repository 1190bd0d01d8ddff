"""What an engine is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Ask for the log-probability of the tokens from `target_start` on, given those before."""

    row: int
    tokens: tuple[int, ...]
    target_start: int
    """At least 1: the first token of a text has no probability."""


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """Ask for one answer per seed."""

    row: int
    tokens: tuple[int, ...]
    """Of the prompt."""
    seeds: tuple[int, ...]
    first: int = 0
    """Which sample of the example the first seed stands for."""


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
