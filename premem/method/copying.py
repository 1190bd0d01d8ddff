"""Memorization as it shows in text: answers that reproduce the reference reasoning nearly word for word.

Perplexity says that a model could recite; this says that it did. The two need not agree.
"""

from __future__ import annotations

from collections.abc import Sequence

from premem.extras import brought_by

COPIED_FROM = 0.9
LONGEST = 20_000
"""Characters that are compared, from the start: similarity takes time in the product of the lengths."""


def similarity(answer: str, trace: str) -> float:
    """In [0, 1], over words: 1 is word for word, white space aside (rapidfuzz's normalized InDel similarity)."""
    with brought_by("method"):  # here, because jobs are described with COPIED_FROM where nothing is compared
        from rapidfuzz import fuzz

    return fuzz.ratio(answer[:LONGEST].split(), trace[:LONGEST].split()) / 100


def copied(similarities: Sequence[float], *, copied_from: float = COPIED_FROM) -> float | None:
    """Share of the answers that are as like the reference as that or more; None where there is no answer."""
    if not similarities:
        return None
    return sum(value >= copied_from for value in similarities) / len(similarities)
