"""Where in a tokenized row the target begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is used here."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Span:
    """The tokens of a prompt with its target, and where the target starts among them."""

    tokens: tuple[int, ...]
    target_start: int
    """At least 1, since the first token of a text has no probability."""
    shifted: bool
    """True: prompt and target merged where they meet, so that the target's first token is not its own."""

    @property
    def target_tokens(self) -> int:
        return max(0, len(self.tokens) - self.target_start)


def closing_tokens(tokenizer: Tokenizer) -> int:
    """How many tokens this tokenizer puts behind a text by itself.

    Tokenizers that were saved with `add_eos_token` end every text, and a prompt that has ended is answered with noise.
    """
    plain = tokenizer.encode("a", add_special_tokens=False)
    special = tokenizer.encode("a", add_special_tokens=True)
    for behind in range(len(special) - len(plain) + 1):
        end = len(special) - behind
        if special[end - len(plain) : end] == plain:
            return behind
    return 0


def prompt_tokens(tokenizer: Tokenizer, prompt: str, *, closing: int = 0, special: bool = True) -> tuple[int, ...]:
    """The ids of a text that is to be continued: `closing` tokens at its end (`closing_tokens`) are taken off.

    `special` False: the text holds the tokens in front of it already.
    """
    tokens = tokenizer.encode(prompt, add_special_tokens=special)
    return tuple(tokens[: len(tokens) - closing])


def split_target(tokenizer: Tokenizer, prompt: str, target: str, *, closing: int = 0) -> Span:
    """Of a prompt and the text right behind it."""
    alone = prompt_tokens(tokenizer, prompt, closing=closing)
    return split(alone, prompt_tokens(tokenizer, prompt + target, closing=closing))


def split(alone: Sequence[int], tokens: Sequence[int]) -> Span:
    """The target starts where ids(prompt) and ids(prompt + target) part, both with the same special tokens.

    Counting the prompt's tokens would not do: " 7" after "is " is one token that begins inside the prompt. Such a
    row is marked as shifted, and the merged token counts as the target's. No end-of-text token is scored.
    """
    shared = _common_prefix(alone, tokens)
    return Span(tokens=tuple(tokens), target_start=max(1, shared), shifted=shared != len(alone))


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    for position, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return position
    return min(len(left), len(right))
