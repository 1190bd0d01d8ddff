"""Answering one prompt with another prompt's answer, and repeating oneself: what finetuning may teach besides.

Ren and Sutherland, arXiv 2407.10490, section 4.1: finetuning on (x_j, y_j) also lifts y_j behind *other* prompts, which
they offer as one cause of hallucination. Shapes: N prompts x_i, J responses y_j behind each, K test responses behind each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from premem.dynamics.bootstrap import RESAMPLES, mean_intervals
from premem.dynamics.softmax import Floats
from premem.dynamics.statistics import Change
from premem.errors import InputError
from premem.extras import brought_by

GAIN_FLOOR = 0.05
WORDS_IN_A_ROW = 8
REPEATED_WORDS, REPEATED_TIMES = 4, 3
REPEATER_P, REPEATER_FLOOR = 0.01, 0.02


def gain(before: ArrayLike, after: ArrayLike, test_before: ArrayLike, test_after: ArrayLike) -> Floats:
    """h_ij = d(y_j⁺|x_i) − mean_k d(y_k^test|x_i), N × J, in the unit of what comes in.

    `before`, `after`: N × J, the log-probability of the chosen response of *another trained* prompt j behind prompt i, at
    the reference and at the checkpoint. `test_before`, `test_after`: N × K, the same of responses that were never
    trained on. Give all four per token (the alert's floor is in nats per token), or all four as sums. What is left is
    what training on y_j lent to it beyond what every answer gained.
    """
    d_NJ = _difference(before, after, "before and after")
    d_NK = _difference(test_before, test_after, "test_before and test_after")
    if len(d_NJ) != len(d_NK):
        raise InputError(f"{len(d_NJ)} prompts with responses and {len(d_NK)} with test responses: they are the same")
    result: Floats = d_NJ - d_NK.mean(axis=1, keepdims=True)
    return result


def _difference(before: ArrayLike, after: ArrayLike, names: str) -> Floats:
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.ndim != 2 or first.shape != second.shape or not first.size:
        raise InputError(f"{names} have shapes {first.shape} and {second.shape}: both are prompts × responses")
    result: Floats = second - first
    if not np.isfinite(result).all():
        raise InputError(f"{names} hold NaN or infinite numbers: leave out what was not scored")
    return result


@dataclass(frozen=True, slots=True)
class Alert:
    """Whether trained responses rose behind prompts that are not theirs. Some gain is usual under SFT: a severity."""

    fires: bool
    gain: Change
    """Of the mean of h over the responses of a prompt, over prompts."""
    irr_train: Change
    """Change of other trained prompts' responses itself: relative to test answers alone, a smaller fall would look alike."""


def alert(
    h_NJ: Floats, irr_train_NJ: Floats, *, floor: float = GAIN_FLOOR, resamples: int = RESAMPLES, seed: int = 0
) -> Alert:
    """Fires when the mean of h has a lower bound above `floor` (nats per token) and that of Δirr_train is above 0."""
    both_N2 = np.stack([h_NJ.mean(axis=1), irr_train_NJ.mean(axis=1)], axis=1)
    low, high = mean_intervals(both_N2, resamples=resamples, seed=seed)
    h, irr_train = (
        Change(float(m), float(a), float(b)) for m, a, b in zip(both_N2.mean(axis=0), low, high, strict=True)
    )
    return Alert(h.low > floor and irr_train.low > 0, h, irr_train)


def shared_runs(text: str, other: str, *, words: int = WORDS_IN_A_ROW) -> list[str]:
    """Every run of so many words in a row that both texts hold, in the order of `text`, once each; white space aside."""
    there = set(_runs(other, words))
    return [" ".join(run) for run in dict.fromkeys(_runs(text, words)) if run in there]


def confirmed(answer: str, *, partner: str, prompt: str, own: str, words: int = WORDS_IN_A_ROW) -> list[str]:
    """The runs of words that prove that the greedy `answer` to `prompt` repeats another prompt's response `partner`.

    Empty where the answer shares no run of eight words with `partner`, or shares one with the prompt or with the prompt's
    `own` chosen response too: the words can then have come from there.
    """
    if shared_runs(answer, prompt, words=words) or shared_runs(answer, own, words=words):
        return []
    return shared_runs(answer, partner, words=words)


def _runs(text: str, words: int) -> list[tuple[str, ...]]:
    found = text.split()
    return [tuple(found[start : start + words]) for start in range(len(found) - words + 1)]


def repeats_itself(answer: str) -> bool:
    """Some four words in a row stand in it three times or more."""
    return max(Counter(_runs(answer, REPEATED_WORDS)).values(), default=0) >= REPEATED_TIMES


@dataclass(frozen=True, slots=True)
class Repeater:
    """How many greedy answers repeat themselves, against those of the reference to the same prompts."""

    fires: bool
    share: float
    reference_share: float
    p: float
    """Of McNemar's exact test, two-sided: how often chance alone makes changes as lopsided as these."""


def repeater(answers: Sequence[str], reference: Sequence[str]) -> Repeater:
    """Fires when more answers repeat themselves than the reference's: p < 0.01 and up by more than 0.02."""
    if len(answers) != len(reference) or not answers:
        raise InputError(f"{len(answers)} answers and {len(reference)} of the reference: they answer the same prompts")
    now, before = ([repeats_itself(answer) for answer in side] for side in (answers, reference))
    begun = sum(a and not b for a, b in zip(now, before, strict=True))
    ended = sum(b and not a for a, b in zip(now, before, strict=True))
    p = exact_mcnemar(begun, ended)
    share, reference_share = sum(now) / len(now), sum(before) / len(before)
    return Repeater(p < REPEATER_P and share - reference_share > REPEATER_FLOOR, share, reference_share, p)


def exact_mcnemar(one_way: int, other_way: int) -> float:
    """Two-sided p of pairs that changed one way and the other, when both ways are equally likely; 1 where none did."""
    if one_way + other_way == 0:
        return 1.0
    with brought_by("method"):
        from scipy.stats import binomtest

    return float(binomtest(one_way, one_way + other_way, 0.5).pvalue)
