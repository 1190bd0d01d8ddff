"""Which part of an update reaches another response: Δ log π ≈ −η · A · K · G.

Ren and Sutherland, arXiv 2407.10490, proposition 1 (one label) and section 4 (sequences). A is how log-probabilities
follow logits where one looks, K how logits move together (the empirical neural tangent kernel), G how the loss pushes
the logits of what is trained on. All of it holds for one step of plain gradient descent, to first order.

Shapes: V classes (the vocabulary), L positions of the updated response, M of the observed one, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from premem.dynamics.softmax import Floats, log_softmax, softmax
from premem.errors import InputError


@dataclass(frozen=True, slots=True)
class Gradient:
    """A loss, and what it does to the logits: the G of both responses."""

    loss: float
    chosen: Floats
    """L⁺ × V: dL/dlogits of the chosen response, position by position."""
    rejected: Floats | None
    """L⁻ × V; zeros where the loss does not look at it, None where there were no logits."""


@dataclass(frozen=True, slots=True)
class _Scored:
    """What the losses look at: sums of log-probabilities s, of the reference r, and tokens n."""

    chosen: float
    rejected: float
    reference_chosen: float
    reference_rejected: float
    tokens_chosen: int
    tokens_rejected: int
    beta: float

    @property
    def margin(self) -> float:
        return (self.chosen - self.reference_chosen) - (self.rejected - self.reference_rejected)


Slopes = tuple[float, float, float]
"""The loss, its derivative by the sum of the chosen log-probabilities, and by that of the rejected ones."""


def _sigmoid(x: float) -> float:
    return float(np.exp(_log_sigmoid(x)))


def _log_sigmoid(x: float) -> float:
    return -float(np.logaddexp(0.0, -x))


def _sft_sum(s: _Scored, _: float) -> Slopes:
    return -s.chosen, -1.0, 0.0


def _sft_mean(s: _Scored, _: float) -> Slopes:
    return -s.chosen / s.tokens_chosen, -1.0 / s.tokens_chosen, 0.0


def _weighted(s: _Scored, right: float, wrong: float) -> Slopes:
    """−right · log σ(βm) − wrong · log σ(−βm)."""
    x = s.beta * s.margin
    slope = s.beta * (wrong * _sigmoid(x) - right * _sigmoid(-x))
    return -right * _log_sigmoid(x) - wrong * _log_sigmoid(-x), slope, -slope


def _sigmoid_loss(s: _Scored, _: float) -> Slopes:
    return _weighted(s, 1.0, 0.0)


def _cdpo(s: _Scored, flipped: float) -> Slopes:
    _check_share("cdpo", flipped, below=1.0)
    return _weighted(s, 1 - flipped, flipped)


def _robust(s: _Scored, flipped: float) -> Slopes:
    _check_share("robust", flipped, below=0.5)
    scale = 1 - 2 * flipped
    return _weighted(s, (1 - flipped) / scale, -flipped / scale)


def _ipo(s: _Scored, _: float) -> Slopes:
    above = s.margin - 1 / (2 * s.beta)
    return above**2, 2 * above, -2 * above


def _hinge(s: _Scored, _: float) -> Slopes:
    missing = 1 - s.beta * s.margin
    slope = -s.beta if missing > 0 else 0.0
    return max(0.0, missing), slope, -slope


def _sigmoid_norm(s: _Scored, _: float) -> Slopes:
    x = s.beta * (
        (s.chosen - s.reference_chosen) / s.tokens_chosen - (s.rejected - s.reference_rejected) / s.tokens_rejected
    )
    slope = -s.beta * _sigmoid(-x)
    return -_log_sigmoid(x), slope / s.tokens_chosen, -slope / s.tokens_rejected


def _sigmoid_plus_sft(s: _Scored, _: float) -> Slopes:
    loss, chosen, rejected = _sigmoid_loss(s, 0.0)
    sft, by_chosen, _by_rejected = _sft_mean(s, 0.0)
    return loss + sft, chosen + by_chosen, rejected


def _dpop(s: _Scored, weight: float) -> Slopes:
    fallen = s.reference_chosen - s.chosen
    x = s.beta * (s.margin - weight * max(0.0, fallen))
    slope = -s.beta * _sigmoid(-x)
    return -_log_sigmoid(x), slope * (1 + (weight if fallen > 0 else 0.0)), -slope


@dataclass(frozen=True, slots=True)
class _Loss:
    slopes: Callable[[_Scored, float], Slopes]
    preference: bool = True
    """It compares two responses with a reference."""
    parameter: float | None = None
    """What NAME alone means where NAME_0.2 gives another one."""


LOSSES: dict[str, _Loss] = {
    "sft_sum": _Loss(_sft_sum, preference=False),
    "sft_mean": _Loss(_sft_mean, preference=False),
    "sigmoid": _Loss(_sigmoid_loss),
    "ipo": _Loss(_ipo),
    "hinge": _Loss(_hinge),
    "robust": _Loss(_robust, parameter=0.1),
    "cdpo": _Loss(_cdpo, parameter=0.1),
    "sigmoid_norm": _Loss(_sigmoid_norm),
    "sigmoid_plus_sft": _Loss(_sigmoid_plus_sft),
    "dpop": _Loss(_dpop, parameter=50.0),
}


def gradient(
    loss: str,
    *,
    logits_chosen: ArrayLike,
    logits_rejected: ArrayLike | None = None,
    tokens_chosen: ArrayLike,
    tokens_rejected: ArrayLike | None = None,
    reference_chosen: float | None = None,
    reference_rejected: float | None = None,
    beta: float = 0.1,
) -> Gradient:
    """G of both responses: dL/dlogits at every position, and the value of the loss.

    `logits_…`: L × V, those that predict the response's tokens. `tokens_…`: L token ids. `reference_…`: the summed
    log-probability of the response under the reference model, in nats; the losses on a pair need both.

    With s the sum of log π over the response, n its tokens, m = (s⁺ − r⁺) − (s⁻ − r⁻), σ the logistic function:

    | loss | value |
    | --- | --- |
    | `sft_sum`, `sft_mean` | −s⁺, −s⁺/n⁺ |
    | `sigmoid` (DPO) | −log σ(βm) |
    | `ipo` | (m − 1/(2β))² |
    | `hinge` | max(0, 1 − βm) |
    | `robust_ε` | (−(1 − ε) log σ(βm) + ε log σ(−βm)) / (1 − 2ε), as TRL divides it; `robust` is ε = 0.1 |
    | `cdpo_ε` | −(1 − ε) log σ(βm) − ε log σ(−βm); `cdpo` is ε = 0.1 |
    | `sigmoid_norm` | `sigmoid` with (s − r)/n of each response |
    | `sigmoid_plus_sft` | `sigmoid` + `sft_mean` |
    | `dpop_λ` | −log σ(β(m − λ max(0, r⁺ − s⁺))); `dpop` is λ = 50 |

    Every one looks at the logits through s alone, so that G = dL/ds · (e − π) at every position; for `sigmoid`
    G⁺ = β(1 − a)(π − e) with a = σ(βm). At a kink (`hinge`, `dpop`) the flat side's slope is taken. Raises InputError
    for an unknown loss, or where something is missing or does not fit.
    """
    known, parameter = _loss_named(loss)
    log_chosen, ids_chosen = _response(logits_chosen, tokens_chosen, "chosen")
    if (logits_rejected is None) != (tokens_rejected is None):
        raise InputError("logits_rejected and tokens_rejected belong together: give both or neither")
    if logits_rejected is None or tokens_rejected is None:
        rejected = None
    else:
        rejected = _response(logits_rejected, tokens_rejected, "rejected")
    if known.preference and (rejected is None or reference_chosen is None or reference_rejected is None):
        raise InputError(f"{loss} compares two responses: it needs the rejected one, and both reference sums")
    if not beta > 0:
        raise InputError(f"beta is above 0, not {beta}")
    scored = _Scored(
        chosen=_sum(log_chosen, ids_chosen),
        rejected=0.0 if rejected is None else _sum(*rejected),
        reference_chosen=reference_chosen or 0.0,
        reference_rejected=reference_rejected or 0.0,
        tokens_chosen=len(ids_chosen),
        tokens_rejected=1 if rejected is None else len(rejected[1]),
        beta=beta,
    )
    value, by_chosen, by_rejected = known.slopes(scored, parameter)
    return Gradient(
        loss=value,
        chosen=by_chosen * _one_hot_less(log_chosen, ids_chosen),
        rejected=None if rejected is None else by_rejected * _one_hot_less(*rejected),
    )


def _loss_named(name: str) -> tuple[_Loss, float]:
    if name in LOSSES:
        return LOSSES[name], LOSSES[name].parameter or 0.0
    kind, _, number = name.rpartition("_")
    if kind in LOSSES and LOSSES[kind].parameter is not None:
        try:
            parameter = float(number)
        except ValueError:
            parameter = float("nan")
        if np.isfinite(parameter) and parameter >= 0:
            return LOSSES[kind], parameter
    raise InputError(
        f"there is no loss named {name!r}: choose one of {', '.join(LOSSES)} (robust_0.2 and the like set a parameter)"
    )


def _check_share(name: str, flipped: float, *, below: float) -> None:
    if not 0 <= flipped < below:
        raise InputError(f"{name}_{flipped:g}: the share of wrong labels lies from 0 to below {below:g}")


def _response(logits: ArrayLike, tokens: ArrayLike, which: str) -> tuple[Floats, NDArray[np.int64]]:
    log_LV, ids_L = log_softmax(logits), np.asarray(tokens, dtype=np.int64)
    if log_LV.ndim != 2 or ids_L.shape != log_LV.shape[:1] or not len(ids_L):
        raise InputError(
            f"the {which} response has logits of shape {log_LV.shape} and tokens of shape {ids_L.shape}: "
            "they are positions × vocabulary and positions, at least one"
        )
    if ids_L.min() < 0 or ids_L.max() >= log_LV.shape[1]:
        raise InputError(f"a token of the {which} response is none of the {log_LV.shape[1]} of the vocabulary")
    return log_LV, ids_L


def _sum(log_LV: Floats, ids_L: NDArray[np.int64]) -> float:
    return float(log_LV[np.arange(len(ids_L)), ids_L].sum())


def _one_hot_less(log_LV: Floats, ids_L: NDArray[np.int64]) -> Floats:
    """e − π, which is ds/dlogits."""
    found = -np.exp(log_LV)
    found[np.arange(len(ids_L)), ids_L] += 1.0
    return found


def log_softmax_jacobian(logits: ArrayLike) -> Floats:
    """A: … × V × V, d log π_i / d z_j = [i = j] − π_j, so I − 1πᵀ. `logits`: … × V."""
    p = softmax(logits)
    result: Floats = np.eye(p.shape[-1]) - p[..., None, :]
    return result


def log_softmax_jacobian_norm(probabilities: ArrayLike) -> Floats:
    """‖A‖² (Frobenius) = V − 2 + V‖π‖², of … × V probabilities: from V − 1 (uniform) to 2V − 2 (one class is sure)."""
    p = np.asarray(probabilities, dtype=np.float64)
    classes = p.shape[-1]
    result: Floats = np.asarray(classes - 2 + classes * np.square(p).sum(axis=-1))
    return result


def empirical_ntk(jacobian_observed: ArrayLike, jacobian_updated: ArrayLike) -> Floats:
    """K: M × L × V × V, of the logits' Jacobians dz/dθ of an observed (M × V × P) and an updated response (L × V × P).

    K[m, l] = J_o[m] J_u[l]ᵀ: how the logits at m follow those at l when the parameters move along the latter's gradient.
    """
    observed = np.asarray(jacobian_observed, dtype=np.float64)
    updated = np.asarray(jacobian_updated, dtype=np.float64)
    if observed.ndim != 3 or updated.ndim != 3 or observed.shape[2] != updated.shape[2]:
        raise InputError(
            f"Jacobians of shapes {observed.shape} and {updated.shape}: both are positions × classes × parameters, "
            "with the same parameters"
        )
    result: Floats = np.einsum("mvp,lwp->mlvw", observed, updated)
    return result


def predicted_change(A: ArrayLike, K: ArrayLike, G: ArrayLike, eta: float | ArrayLike) -> Floats:
    """−η A_m Σ_l K_ml G_l: the change of log π at every observed position (M × V), to first order.

    `A`: M × V × V. `K`: M × L × V × V and `G`: L × V; or M × V × V and V, where one position is trained on. An array of
    learning rates adds its axes in front. The responses of a pair add up: call it with K and G of each. Raises InputError
    where the shapes do not fit.
    """
    a, k, g = (np.asarray(part, dtype=np.float64) for part in (A, K, G))
    if g.ndim == 1 and k.ndim == 3:
        k, g = k[:, None], g[None]
    classes = g.shape[-1] if g.ndim else 0
    if g.ndim != 2 or k.shape[1:] != (len(g), classes, classes) or a.shape != (k.shape[0], classes, classes):
        raise InputError(
            f"A, K and G of shapes {np.shape(A)}, {np.shape(K)} and {np.shape(G)} do not fit: they are M × V × V, "
            "M × L × V × V and L × V"
        )
    change = np.einsum("mij,mljk,lk->mi", a, k, g)
    result: Floats = -np.multiply.outer(np.asarray(eta, dtype=np.float64), change)
    return result


def authors_columns(logits: ArrayLike, tokens: ArrayLike) -> dict[str, float]:
    """The columns that the paper's authors log beside the log-probabilities, of one response (L × V logits, L tokens).

    `A_o` = √(V·(mean ‖π‖)² + V − 2): the *square of the mean norm*, so a little below the root of the mean of ‖A‖².
    `p_e` = mean ‖π − e‖ and `energy` = mean (1 − π_y), over positions.
    """
    log_LV, ids_L = _response(logits, tokens, "logged")
    p = np.exp(log_LV)
    classes = p.shape[1]
    norm = float(np.sqrt(np.square(p).sum(axis=1)).mean())
    return {
        "A_o": float(np.sqrt(classes * norm**2 + classes - 2)),
        "p_e": float(np.sqrt(np.square(_one_hot_less(log_LV, ids_L)).sum(axis=1)).mean()),
        "energy": float(1 - p[np.arange(len(ids_L)), ids_L].mean()),
    }
