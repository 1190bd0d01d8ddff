"""What to try after a verdict, as a table: each line says what was measured for it, and where nothing was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

Occasion = Literal["squeeze", "flatten", "displacement", "train_only", "rejected_longer"]


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to try."""

    occasion: Occasion
    action: str
    measured: str
    """What is known of it; "not measured" where it is only a proposal."""


ADVICE: tuple[Advice, ...] = (
    Advice(
        "squeeze",
        "Stop at the best checkpoint: use fewer steps or a lower learning rate. The margin was driven too far.",
        "Tiny DPO runs: four times the learning rate falls as far at an equal margin and much farther at equal steps, so "
        "how far the margin is driven counts.",
    ),
    Advice(
        "squeeze",
        'Add the NLL term on chosen: loss_type=["sigmoid", "sft"] in TRL.',
        "Tiny DPO runs, equal steps: chosen falls a third as far, at two thirds of the margin.",
    ),
    Advice(
        "squeeze",
        "Draw the rejected answers from the model itself (on-policy).",
        "Proposed by Ren and Sutherland; not measured here.",
    ),
    Advice(
        "squeeze",
        "Finetune on chosen and rejected answers before DPO (extend).",
        "Proposed by Ren and Sutherland. In tiny DPO runs chosen rose at an equal margin but from a lower start, and ended "
        "below plain DPO: not shown to help.",
    ),
    Advice(
        "flatten",
        "Lower the learning rate.",
        "It is what the authors' recorded unstable runs show; the remedy itself was not measured.",
    ),
    Advice(
        "displacement",
        "Look at the pairs that fell, rejected ones that rose first.",
        "Not measured: chosen fell without the signs of a squeeze or of flattening.",
    ),
    Advice(
        "rejected_longer",
        "Normalise by length: loss_type sigmoid_norm, or ld_alpha, in TRL.",
        "Not measured; in the authors' runs pairs with longer rejected answers fall more often (AUC 0.60 to 0.80).",
    ),
    Advice(
        "train_only",
        "Train for fewer epochs. The NLL term hides this on trained prompts.",
        "Tiny DPO runs: with the NLL term chosen holds on trained prompts (−.02 to .00) and still falls on held-out ones "
        "(−.01 to −.06).",
    ),
)


def advice(*occasions: Occasion) -> list[Advice]:
    """The lines of the table for these occasions, in its order."""
    return [line for line in ADVICE if line.occasion in occasions]


def rejected_is_longer(tokens_chosen: ArrayLike, tokens_rejected: ArrayLike) -> bool:
    """Of the pairs that fell: most have a rejected answer with more tokens than the chosen one; False where none fell."""
    longer_E = np.asarray(tokens_rejected) > np.asarray(tokens_chosen)
    return bool(2 * longer_E.sum() > len(longer_E))
