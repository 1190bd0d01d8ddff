"""Requests to an engine, and its results."""

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
    """At least 1, because the first token of a text has no probability."""


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """Ask for one answer per seed."""

    row: int
    tokens: tuple[int, ...]
    """Tokens of the prompt."""
    seeds: tuple[int, ...]
    first: int = 0
    """Number of the sample that has the first seed."""


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Ask for the mean last hidden state over the tokens of a prompt."""

    row: int
    tokens: tuple[int, ...]


def answers_to(request: ScoreRequest | SampleRequest) -> int:
    """Number of results that a request has."""
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
    """Tokens of the whole request."""
    cached_tokens: int = field(default=0, compare=False, repr=False)
    """Those of them that the engine found in its cache."""


@dataclass(frozen=True, slots=True)
class Sampled:
    row: int
    sample: int
    """Number of the sample, from 0."""
    text: str
    """Without the stop string."""
    tokens: int
    finished: bool
    """True: it ended with a stop string or the end-of-text token. False: at the token limit."""
    prompt_tokens: int = field(default=0, compare=False, repr=False)
    cached_tokens: int = field(default=0, compare=False, repr=False)
    """As in Scored."""
