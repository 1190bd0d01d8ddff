"""How the transformers engine draws a token: one number per row and step, looked up in what top_p leaves.

R rows, V tokens in the vocabulary, K of them sorted.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_LIKELIEST = 64
"""Tokens sorted at first: at the usual settings top_p keeps fewer, and each more costs time, a whole vocabulary most."""


class Chance:
    """Numbers in [0, 1): the n-th is a function of the seed alone."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.Philox(key=seed))
        self._drawn: list[float] = []

    def next(self) -> float:
        if not self._drawn:
            self._drawn = self._generator.random(64).tolist()[::-1]
        return self._drawn.pop()


def draw(logits_RV: Tensor, uniforms_R: Tensor | None, *, temperature: float, top_p: float) -> Tensor:
    """One token per row. At temperature 0 the likeliest, and `uniforms_R` is not looked at.

    Otherwise the smallest set of likeliest tokens whose mass reaches `top_p`, put in order of falling probability,
    is cut at the row's number. A row's token depends on no other row. Raises FloatingPointError where a row's logits
    are no numbers.
    """
    if temperature == 0.0 or uniforms_R is None:
        best_R, tokens_R = logits_RV.max(dim=-1)
        _check_numbers(best_R)
        return tokens_R
    probabilities_RV = torch.softmax(logits_RV.float() / temperature, dim=-1)
    _check_numbers(probabilities_RV[:, 0])
    likeliest_RK, tokens_RK = probabilities_RV.topk(min(_LIKELIEST, probabilities_RV.shape[1]))
    drawn_R = _cut(likeliest_RK, tokens_RK, uniforms_R, top_p)
    if probabilities_RV.shape[1] > _LIKELIEST:
        flat_R = likeliest_RK.double().sum(dim=-1) < top_p
        if flat_R.any():
            sorted_RV, tokens_RV = probabilities_RV[flat_R].sort(dim=-1, descending=True, stable=True)
            drawn_R[flat_R] = _cut(sorted_RV, tokens_RV, uniforms_R[flat_R], top_p)
    return drawn_R


def _cut(sorted_RK: Tensor, tokens_RK: Tensor, uniforms_R: Tensor, top_p: float) -> Tensor:
    cumulative_RK = sorted_RK.double().cumsum(dim=-1)
    kept_R = (cumulative_RK - sorted_RK < top_p).sum(dim=-1, keepdim=True).clamp(min=1)
    mass_R = cumulative_RK.gather(1, kept_R - 1)
    places_R = torch.searchsorted(cumulative_RK, uniforms_R[:, None] * mass_R, right=True)
    return tokens_RK.gather(1, places_R.minimum(kept_R - 1)).squeeze(1)


def _check_numbers(values_R: Tensor) -> None:
    if not bool(values_R.isfinite().all()):
        raise FloatingPointError("the model's logits are no numbers")
