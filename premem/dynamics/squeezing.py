"""One gradient step on a softmax, up or down: where the probability of a label goes that is pushed down.

Ren and Sutherland, "Learning Dynamics of LLM Finetuning", arXiv 2407.10490, section 3.3 and appendix E. Shapes: V classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from premem.dynamics.softmax import Floats, log_softmax
from premem.errors import InputError


class Step(NamedTuple):
    """What one step did."""

    after: Floats
    """V probabilities after the step."""
    delta_log: Floats
    """V changes of the log-probabilities, in nats."""


def step(logits: ArrayLike, label: int, eta: float, sign: int) -> Step:
    """One step on `sign` · (−log π_y): z' = z − sign · eta · (π − e_y).

    `logits`: V, finite. `label`: y. `eta`: the learning rate, times |x|² where the logits are Wx. `sign`: +1 lifts the
    label (finetuning on it), −1 pushes it down (the rejected answer). Raises InputError where one of them cannot be used.
    """
    _check(label, sign, classes=np.shape(logits))
    if not (np.isfinite(eta) and eta >= 0):
        raise InputError(f"eta is a number from 0 up, not {eta}")
    before = log_softmax(logits)
    residual = np.exp(before)
    residual[label] -= 1.0
    after = log_softmax(np.asarray(logits, dtype=np.float64) - sign * eta * residual)
    return Step(np.exp(after), after - before)


def rises(probabilities: ArrayLike, label: int, sign: int = -1) -> NDArray[np.bool_]:
    """V: which log-probabilities rise to first order in eta.

    Pushing the label y down lifts another class i when p_i > ‖p‖² − p_y, and never y itself:
    d log p_i / d eta = (p_i − [i = y]) − (‖p‖² − p_y). Lifting y (`sign` +1) turns every sign around.
    """
    p = np.array(probabilities, dtype=np.float64)
    _check(label, sign, classes=p.shape)
    slope = p - (p @ p - p[label])
    slope[label] -= 1.0
    result: NDArray[np.bool_] = -sign * slope > 0
    return result


def _check(label: int, sign: int, *, classes: tuple[int, ...]) -> None:
    if len(classes) != 1:
        raise InputError(f"one step is of one distribution: one axis of classes, not the shape {classes}")
    if not 0 <= label < classes[0]:
        raise InputError(f"the label {label} is none of the classes 0 to {classes[0] - 1}")
    if sign not in (1, -1):
        raise InputError(f"sign is 1 (up) or -1 (down), not {sign}")
