"""New examples like the ones that were not solved: the step that makes curation a loop (Kang et al. 2024, Algorithm 1).

Shapes: L low examples, N candidates of a pool that was never trained on, D dimensions of an embedding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from premem.errors import InputError
from premem.records import Example

Rows = Any
"""A matrix of float64, dense or sparse."""
CHUNK = 2048


@dataclass(frozen=True, slots=True)
class Candidate:
    """One example of the pool, with the low example that it is most like."""

    position: int
    """In the pool."""
    similarity: float
    """Cosine."""
    nearest: int
    """Position among the low examples."""


def acquire(low_LD: Rows, pool_ND: Rows, *, budget: int) -> list[Candidate]:
    """The candidates most like any low example, most alike first, ties by position; at most `budget`.

    Raises InputError where either is empty.
    """
    if budget < 1:
        raise InputError(f"a budget is at least 1, not {budget}")
    if low_LD.shape[0] == 0:
        raise InputError("no example is low: there is nothing to look for; raise the threshold")
    if pool_ND.shape[0] == 0:
        raise InputError("the pool is empty: upload candidates that were not trained on")
    low, pool = normalize(low_LD), normalize(pool_ND)  # a row of zeros stays one, and is like nothing
    similarity_N = np.empty(pool.shape[0])
    nearest_N = np.empty(pool.shape[0], dtype=np.int64)
    for start in range(0, pool.shape[0], CHUNK):
        part = slice(start, start + CHUNK)
        product = pool[part] @ low.T
        alike_NL = product.toarray() if hasattr(product, "toarray") else product
        nearest_N[part] = alike_NL.argmax(axis=1)
        similarity_N[part] = alike_NL.max(axis=1)
    order = np.lexsort((np.arange(len(similarity_N)), -similarity_N))[:budget]
    return [Candidate(int(n), float(similarity_N[n]), int(nearest_N[n])) for n in order]


def tfidf(low: Sequence[str], pool: Sequence[str]) -> tuple[Rows, Rows]:
    """Rows for both, by words and pairs of words: what there is where no model is at hand."""
    if not low or not pool:
        return np.zeros((len(low), 1)), np.zeros((len(pool), 1))
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")  # noqa: S106
    rows = vectorizer.fit_transform([*low, *pool])
    return rows[: len(low)], rows[len(low) :]


def seed_requests(
    low: Sequence[Example], weights: Sequence[float], *, requests: int, model: str, instruction: str | None = None
) -> Iterator[str]:
    """Lines for an OpenAI-compatible batch endpoint: each asks for a new example like one of the low ones.

    `requests` are dealt out by the weights, largest remainders first, so that the heaviest examples get the most.
    Raises InputError where nothing is low or the weights do not fit.
    """
    if not low:
        raise InputError("no example is low: there is nothing to make new ones from")
    share = np.asarray(weights, dtype=np.float64)
    if len(share) != len(low) or not (share >= 0).all() or share.sum() <= 0:
        raise InputError("there must be one weight of at least 0 for each low example, and one above 0")
    exact = share / share.sum() * requests
    times = np.floor(exact).astype(int)
    times[np.argsort(times - exact, kind="stable")[: requests - int(times.sum())]] += 1
    system = instruction or (
        "Write one new training example that needs the same skills as the one you are shown, with another story and "
        "other numbers. Answer with a JSON object with the keys question and trace; the trace ends as the one shown does."
    )
    for example, count in zip(low, times.tolist(), strict=True):
        for number in range(count):
            shown = json.dumps({"question": example.question, "trace": example.trace}, ensure_ascii=False)
            body = {
                "model": model,
                "messages": [{"role": "system", "content": system}, {"role": "user", "content": shown}],
                "temperature": 1.0,
            }
            request = {
                "custom_id": f"{example.id}-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": body,
            }
            yield json.dumps(request, ensure_ascii=False)
