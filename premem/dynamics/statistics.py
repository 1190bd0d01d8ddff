"""What the changes of a preference run say: a verdict with its interval, and what could not have been seen.

Notation: s a summed log-probability in nats, n its tokens, 0 the reference, t a checkpoint. A change is
d = (s_t − s_0)/n, per token, and Δ its mean over pairs (the mean of changes per token, not the ratio of sums). The signs
that the verdicts look for are the squeezing effect of Ren and Sutherland, arXiv 2407.10490, section 3.3.

Shapes: C checkpoints, E pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from premem.dynamics.bootstrap import RESAMPLES, groups_of, mean_intervals
from premem.dynamics.series import best_so_far, twice_in_a_row
from premem.dynamics.softmax import Floats
from premem.errors import InputError

LEAST_PAIRS = 100
Name = Literal["refused", "squeeze", "flatten", "displacement", "none"]
ALERTS: tuple[Name, ...] = ("squeeze", "flatten", "displacement")
"""The verdicts that say that chosen fell."""


@dataclass(frozen=True, slots=True)
class Floors:
    """How far a mean must have moved to count, in nats per token."""

    chosen: float = -0.01
    rejected: float = -0.01
    argmax: float = 0.02


@dataclass(frozen=True, slots=True)
class Change:
    """A mean change over pairs, with its 95% interval, in the unit of what it is of (nats per token)."""

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happened to the chosen answers, in one word, and what it rests on."""

    name: Name
    pairs: int
    prompts: int
    """That differ: the number that an interval rests on."""
    chosen: Change
    rejected: Change | None
    argmax: Change | None
    """Of the likeliest token at every place of the chosen answer."""
    severity: float | None
    """ΔM − ΔC: how far the likeliest tokens rose above the chosen ones."""
    chosen_down_argmax_up: float | None
    """Share of the pairs, which may be large where the mean of chosen rose."""
    smallest_visible_fall: float
    """A mean fall of chosen smaller than this could not have been seen with so many pairs."""
    left_out: tuple[str, ...]
    """Families that were not scored; their part of the rule was skipped."""

    @property
    def alert(self) -> bool:
        return self.name in ALERTS


def change_per_token(before: ArrayLike, after: ArrayLike, tokens: ArrayLike) -> Floats:
    """E changes d = (s_t − s_0)/n of summed log-probabilities. Raises InputError where n < 1 or a sum is not finite."""
    sums, tokens_E = np.asarray([before, after], dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    if sums.shape[1:] != tokens_E.shape:
        raise InputError(f"sums of shape {sums.shape[1:]} and tokens of shape {tokens_E.shape} do not fit")
    if not np.isfinite(sums).all():
        raise InputError("a summed log-probability is NaN or infinite: leave out pairs that were not scored")
    if not (tokens_E >= 1).all():
        raise InputError("an answer has no token: leave its pair out")
    result: Floats = (sums[1] - sums[0]) / tokens_E
    return result


def verdict(
    chosen: ArrayLike,
    rejected: ArrayLike | None = None,
    argmax: ArrayLike | None = None,
    *,
    clusters: ArrayLike | None = None,
    floors: Floors | None = None,
    least_pairs: int = LEAST_PAIRS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Verdict:
    """The verdict on E pairs, from their changes per token (`change_per_token`), paired across the families.

    With C, R, M for chosen, rejected and the argmax of chosen, and the floors of `floors`:

    | verdict | when |
    | --- | --- |
    | `refused` | fewer than `least_pairs` prompts that differ |
    | `squeeze` | upper(ΔC) < −0.01 and lower(ΔM) > 0.02 and upper(ΔR) < −0.01 (skipped where rejected is not scored) |
    | `flatten` | upper(ΔC) < −0.01 and upper(ΔM) < 0.02 |
    | `displacement` | upper(ΔC) < −0.01 otherwise |
    | `none` | otherwise |

    Intervals are 95%, percentile bootstrap over pairs, over prompts where `clusters` names those that repeat. Without
    `argmax` neither squeeze nor flatten can be told: every fall is a displacement. Raises InputError where the arrays do
    not fit, hold NaN, or are of fewer than two prompts.
    """
    floors = floors or Floors()
    parts = {"chosen": chosen, "rejected": rejected, "argmax": argmax}
    given = {name: np.asarray(part, dtype=np.float64) for name, part in parts.items() if part is not None}
    pairs = len(given["chosen"])
    if any(values_E.shape != (pairs,) for values_E in given.values()):
        raise InputError("chosen, rejected and argmax are changes of the same pairs: one number each")
    values_EF = np.stack(list(given.values()), axis=1)
    low_F, high_F = mean_intervals(values_EF, clusters=clusters, resamples=resamples, seed=seed)
    means_F = values_EF.mean(axis=0)
    changes = {
        name: Change(float(mean), float(low), float(high))
        for name, mean, low, high in zip(given, means_F, low_F, high_F, strict=True)
    }
    prompts = int(groups_of(clusters, pairs).max()) + 1
    c, m = changes["chosen"], changes.get("argmax")
    both = (given["chosen"] < 0) & (given["argmax"] > 0) if m else None
    return Verdict(
        name="refused" if prompts < least_pairs else _name(c, changes.get("rejected"), m, floors),
        pairs=pairs,
        prompts=prompts,
        chosen=c,
        rejected=changes.get("rejected"),
        argmax=m,
        severity=m.mean - c.mean if m else None,
        chosen_down_argmax_up=None if both is None else float(both.mean()),
        smallest_visible_fall=c.half_width - floors.chosen,
        left_out=tuple(name for name, part in parts.items() if part is None),
    )


def _name(chosen: Change, rejected: Change | None, argmax: Change | None, floors: Floors) -> Name:
    if not chosen.high < floors.chosen:
        return "none"
    if argmax is not None and argmax.low > floors.argmax and (rejected is None or rejected.high < floors.rejected):
        return "squeeze"
    if argmax is not None and argmax.high < floors.argmax:
        return "flatten"
    return "displacement"


def pairs_needed(found: Verdict, fall: float, floors: Floors | None = None) -> int | None:
    """About how many pairs show a mean fall of chosen by `fall` nats per token; None where no number does.

    Half-widths shrink with the root of the pairs, and the fall must clear the floor too.
    """
    room = fall + (floors or Floors()).chosen
    return None if room <= 0 else max(LEAST_PAIRS, int(np.ceil(found.prompts * (found.chosen.half_width / room) ** 2)))


def train_only(trained: Verdict, holdout: Verdict) -> bool:
    """Chosen holds on the prompts that were trained on, and falls on those that were not."""
    return trained.name == "none" and holdout.alert


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One checkpoint of a run."""

    since_reference: Verdict
    since_best: Verdict | None
    """Since the checkpoint with the best mean change of chosen so far; None where that is this one."""
    best: int
    """Which checkpoint that is, counted from 0, the reference."""
    since_best_counts: bool
    """The best one is chosen by the same numbers, so a verdict since it counts only from the second evaluation in a row."""


def evaluations(
    chosen_CE: Floats,
    tokens_chosen: ArrayLike,
    *,
    rejected_CE: Floats | None = None,
    tokens_rejected: ArrayLike | None = None,
    argmax_CE: Floats | None = None,
    clusters: ArrayLike | None = None,
    floors: Floors | None = None,
    least_pairs: int = LEAST_PAIRS,
    seed: int = 0,
) -> list[Evaluation]:
    """C − 1 evaluations of a run, from C × E summed log-probabilities whose first row is the reference's.

    `argmax_CE` is of the chosen answers, so per token of `tokens_chosen`. `tokens_rejected` is needed with `rejected_CE`.
    """
    if rejected_CE is not None and tokens_rejected is None:
        raise InputError("rejected answers need their numbers of tokens")

    def between(before: int, after: int) -> Verdict:
        return verdict(
            change_per_token(chosen_CE[before], chosen_CE[after], tokens_chosen),
            None
            if rejected_CE is None or tokens_rejected is None
            else change_per_token(rejected_CE[before], rejected_CE[after], tokens_rejected),
            None if argmax_CE is None else change_per_token(argmax_CE[before], argmax_CE[after], tokens_chosen),
            clusters=clusters,
            floors=floors,
            least_pairs=least_pairs,
            seed=seed,
        )

    mean_C = [float(change_per_token(chosen_CE[0], row_E, tokens_chosen).mean()) for row_E in chosen_CE]
    best_C = best_so_far(mean_C)
    since_best = [None if best == c else between(best, c) for c, best in enumerate(best_C)]
    counts_C = twice_in_a_row([one is not None and one.alert for one in since_best])
    return [Evaluation(between(0, c), since_best[c], best_C[c], counts_C[c]) for c in range(1, len(chosen_CE))]


def margins(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike,
    reference_rejected: ArrayLike,
    *,
    beta: float = 0.1,
    tokens_chosen: ArrayLike | None = None,
    tokens_rejected: ArrayLike | None = None,
) -> Floats:
    """m = β[(s_t⁺ − s_0⁺) − (s_t⁻ − s_0⁻)] of each pair, as TRL logs its mean under `rewards/margins`.

    With both token counts each bracket is taken per token, for losses with length normalisation.
    """
    gain_chosen = np.subtract(chosen, reference_chosen, dtype=np.float64)
    gain_rejected = np.subtract(rejected, reference_rejected, dtype=np.float64)
    if (tokens_chosen is None) != (tokens_rejected is None):
        raise InputError("a margin per token needs the tokens of both answers")
    if tokens_chosen is not None and tokens_rejected is not None:
        gain_chosen, gain_rejected = (
            gain_chosen / np.asarray(tokens_chosen),
            gain_rejected / np.asarray(tokens_rejected),
        )
    result: Floats = beta * (gain_chosen - gain_rejected)
    return result


def margin_accuracy(margin: ArrayLike) -> float:
    """Share of the pairs with m > 0. Raises InputError where there is none."""
    found = np.asarray(margin, dtype=np.float64)
    if not found.size:
        raise InputError("there is no pair, so no accuracy of the margin")
    return float((found > 0).mean())


def best_checkpoint(holdout_accuracy: Sequence[float], holdout: Sequence[Verdict]) -> int | None:
    """The place of the highest held-out margin accuracy among the checkpoints whose held-out verdict is `none`.

    The earliest of equal ones; None where every checkpoint has a verdict, or was refused one.
    """
    open_to = [c for c, found in enumerate(holdout) if found.name == "none"]
    return max(open_to, key=lambda c: (holdout_accuracy[c], -c), default=None)
