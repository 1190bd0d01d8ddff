"""The softmax in logarithms, so that no logit is too large. Shapes: … any axes in front, V classes last."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from premem.errors import InputError

Floats = NDArray[np.float64]


def log_softmax(logits: ArrayLike) -> Floats:
    """… × V log-probabilities, natural. Raises InputError where a logit is NaN or infinite, or there is no class."""
    found = np.asarray(logits, dtype=np.float64)
    if found.ndim == 0 or found.shape[-1] == 0:
        raise InputError("logits need an axis of classes that is not empty")
    if not np.isfinite(found).all():
        raise InputError("a logit is NaN or infinite: a class that cannot occur needs a finite, very low logit")
    shifted = found - found.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def softmax(logits: ArrayLike) -> Floats:
    """… × V probabilities."""
    return np.exp(log_softmax(logits))
