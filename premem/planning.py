"""Samples that need not be drawn: those that cannot change an example's final score any more.

The score is min(max over unmemorized m of accuracy_m, accuracy of the last checkpoint). So a memorized pair of example
and checkpoint needs no samples, an example that was memorized throughout none at all, and one that is not memorized at
the last checkpoint only those of the last. Any other is sampled from the last unmemorized checkpoint backwards, and
at the last checkpoint, which is only the cap, at the end and if the maximum is above 0; within a pair no sample is
drawn whose outcome cannot matter. What is drawn has the seeds that it always has, so the score is the one that all
samples would have given.

Shapes: C checkpoints in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class Draw:
    """Samples of one example at one checkpoint that are surely needed."""

    checkpoint: int
    samples: int
    """At least 1: whatever fewer came out, the score would still be open."""


def next_draw(
    memorized_C: Sequence[bool],
    correct_C: Sequence[int],
    drawn_C: Sequence[int],
    *,
    samples: int,
    below: float | None = None,
) -> Draw | None:
    """What to draw next for one example; None where its score is settled.

    `correct_C` of `drawn_C` answers were right so far, of at most `samples` per checkpoint. With `below` only
    whether the score is under it is to be settled, which takes fewer.
    """
    enough = samples if below is None else min(samples, ceil(round(below * samples, 9)))
    last = len(memorized_C) - 1
    if not memorized_C[last]:  # the maximum is at least the cap, so the cap is the score
        return _until(last, correct_C, drawn_C, samples=samples, enough=enough, exactly=below is None)
    best = 0
    for checkpoint in range(last - 1, -1, -1):
        if memorized_C[checkpoint]:
            continue
        if best >= enough:
            break
        right, reach = _bounds(checkpoint, correct_C, drawn_C, samples)
        if below is not None:
            draw = _until(checkpoint, correct_C, drawn_C, samples=samples, enough=enough, exactly=False)
            if draw is not None:
                return draw
        elif reach > max(best, right):  # it may still be, or become, the maximum
            return Draw(checkpoint, reach - max(best, right))
        best = max(best, right)
    if best == 0 or (below is not None and best < enough):
        return None
    cap = best if below is None else enough
    return _until(last, correct_C, drawn_C, samples=samples, enough=cap, exactly=below is None)


def settled_score(
    memorized_C: Sequence[bool], correct_C: Sequence[int], drawn_C: Sequence[int], *, samples: int
) -> float:
    """The final score, where `next_draw` has nothing more to ask for."""
    last = len(memorized_C) - 1
    if not memorized_C[last]:
        return correct_C[last] / samples
    best = max((right for right, known in zip(correct_C, memorized_C, strict=True) if not known), default=0)
    return min(best, correct_C[last]) / samples


def replay(
    memorized_C: Sequence[bool], outcome_CS: Sequence[Sequence[bool]], *, below: float | None = None
) -> tuple[list[int], list[int]]:
    """How many answers would have been right, and how many drawn, per checkpoint, where all outcomes are known.

    `outcome_CS` says of each sample, in the order of drawing, whether it was right.
    """
    samples = len(outcome_CS[0])
    correct_C = [0] * len(memorized_C)
    drawn_C = [0] * len(memorized_C)
    while (draw := next_draw(memorized_C, correct_C, drawn_C, samples=samples, below=below)) is not None:
        known = drawn_C[draw.checkpoint]
        correct_C[draw.checkpoint] += sum(outcome_CS[draw.checkpoint][known : known + draw.samples])
        drawn_C[draw.checkpoint] = known + draw.samples
    return correct_C, drawn_C


def _until(
    checkpoint: int, correct_C: Sequence[int], drawn_C: Sequence[int], *, samples: int, enough: int, exactly: bool
) -> Draw | None:
    """Samples until it is known that `enough` are right, or that they are not; `exactly`: and then how many are."""
    right, reach = _bounds(checkpoint, correct_C, drawn_C, samples)
    if right >= enough or right == reach or (reach < enough and not exactly):
        return None
    left = reach - right
    return Draw(checkpoint, min(enough - right, left) if exactly else min(enough - right, reach - enough + 1))


def _bounds(checkpoint: int, correct_C: Sequence[int], drawn_C: Sequence[int], samples: int) -> tuple[int, int]:
    """Answers that are right, and those that may be in the end."""
    right = correct_C[checkpoint]
    return right, right + samples - drawn_C[checkpoint]
