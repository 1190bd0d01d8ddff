"""New examples like the ones that were not solved: the step that makes curation a loop (Kang et al. 2024, Algorithm 1).

Shapes: L low examples, R of the rest of the training set, N candidates of a pool that was never trained on, D dimensions of an embedding.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from premem.errors import InputError
from premem.extras import brought_by
from premem.records import Example

with brought_by("method"):
    from scipy.sparse import issparse, vstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler, normalize

Floats = NDArray[np.float64]
Rows = Any
"""A matrix of float64, dense or sparse."""
CHUNK = 2048


@dataclass(frozen=True, slots=True)
class Candidate:
    """One example of the pool, with the low example that it is most like."""

    position: int
    """In the pool."""
    similarity: float
    """Cosine, to the nearest low example."""
    nearest: int
    """Position among the low examples."""
    likeness: float | None = None
    """Chance that it is one of the low, of as many low as other examples; None where there were no others."""


def acquire(low_LD: Rows, pool_ND: Rows, *, budget: int, rest_RD: Rows | None = None) -> list[Candidate]:
    """The candidates most like the low examples, most alike first, ties by position; at most `budget`.

    With the `rest` of the training set they are those that a logistic regression tells from the rest as low: what
    all examples share, as wording and length, then counts for nothing. Without it they are those nearest to any low
    example. Raises InputError where low or pool is empty.
    """
    parts = (pool_ND[start : start + CHUNK] for start in range(0, pool_ND.shape[0], CHUNK))
    return acquire_in_parts(low_LD, parts, budget=budget, rest_RD=rest_RD)


def acquire_in_parts(
    low_LD: Rows, parts: Iterable[Rows], *, budget: int, rest_RD: Rows | None = None
) -> list[Candidate]:
    """The same of a pool that memory need not hold whole: its rows, in order, part after part."""
    if budget < 1:
        raise InputError(f"a budget is at least 1, not {budget}")
    if low_LD.shape[0] == 0:
        raise InputError("no example is low: there is nothing to look for; raise the threshold")
    low = normalize(low_LD)  # a row of zeros stays one, and is like nothing
    contrast = None if rest_RD is None or rest_RD.shape[0] == 0 else _contrast(low_LD, rest_RD)
    found: dict[str, list[Floats]] = {"similarity": [], "nearest": [], "likeness": []}
    for part_ND in parts:
        if part_ND.shape[0] == 0:
            continue
        product = normalize(part_ND) @ low.T
        alike_NL = product.toarray() if hasattr(product, "toarray") else product
        found["nearest"].append(alike_NL.argmax(axis=1))
        found["similarity"].append(alike_NL.max(axis=1))
        if contrast is not None:
            found["likeness"].append(contrast.predict_proba(part_ND)[:, 1])
    if not found["nearest"]:
        raise InputError("the pool is empty: upload candidates that were not trained on")
    similarity_N, nearest_N = np.concatenate(found["similarity"]), np.concatenate(found["nearest"])
    likeness_N = np.concatenate(found["likeness"]) if contrast is not None else np.zeros(len(similarity_N))
    order = np.lexsort((np.arange(len(similarity_N)), -similarity_N, -likeness_N))[:budget]
    return [
        Candidate(int(n), float(similarity_N[n]), int(nearest_N[n]), None if contrast is None else float(likeness_N[n]))
        for n in order
    ]


def _contrast(low_LD: Rows, rest_RD: Rows) -> Pipeline:
    """What tells low examples from the rest; both weigh the same, however many there are."""
    sparse = issparse(low_LD)
    both = vstack([low_LD, rest_RD]).tocsr() if sparse else np.vstack([low_LD, rest_RD])
    is_low = np.arange(both.shape[0]) < low_LD.shape[0]
    # Hidden states have dimensions of very different size, and more of them than there are examples.
    strength = 1.0 if sparse else 0.1
    regression = LogisticRegression(class_weight="balanced", C=strength, max_iter=1000)
    return make_pipeline(StandardScaler(with_mean=not sparse, with_std=not sparse), regression).fit(both, is_low)


def tfidf(*groups: Sequence[str]) -> list[Rows]:
    """Rows for each group of texts, by words and pairs of words: what there is where no model is at hand."""
    texts = [text for group in groups for text in group]
    if not texts:
        return [np.zeros((0, 1)) for _ in groups]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")  # noqa: S106
    rows = vectorizer.fit_transform(texts).tocsr()
    ends = np.cumsum([len(group) for group in groups])
    return [rows[end - len(group) : end] for end, group in zip(ends, groups, strict=True)]


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
