"""Samples that need not be drawn: those that cannot change an example's final score any more.

The score is min(max over unmemorized m of accuracy_m, accuracy of the last checkpoint). So a memorized pair of example
and checkpoint needs no samples, an example that was memorized throughout none at all, and one that is not memorized at
the last checkpoint only those of the last. Any other is sampled from the last unmemorized checkpoint backwards, and
at the last checkpoint, which is only the cap, at the end and if the maximum is above 0; within a pair no sample is
drawn whose outcome cannot matter. What is drawn has the seeds that it always has, so the score is the one that all
samples would have given.

A full trajectory needs every unmemorized pair whole, and of a memorized one only what caps the maximum before it: then the
score is known as it stood at every checkpoint.

Shapes: C checkpoints in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be known of one example at one checkpoint, however many answers that takes."""

    checkpoint: int
    floor: int
    """It is enough to know that no more than so many of all answers can be right; -1: it is not."""
    ceiling: int
    """It is enough to know that so many are."""

    def more(self, correct: int, drawn: int, *, samples: int) -> int:
        """Samples that are surely needed still, `correct` of `drawn` being right; 0: the goal is reached."""
        reach = correct + samples - drawn
        if correct >= self.ceiling or reach <= self.floor or drawn >= samples:
            return 0
        return min(self.ceiling - correct, reach - self.floor, samples - drawn)


@dataclass(frozen=True, slots=True)
class Draw:
    """Samples of one example at one checkpoint that are surely needed."""

    checkpoint: int
    samples: int
    """At least 1: whatever fewer came out, the score would still be open."""


def next_goal(
    memorized_C: Sequence[bool],
    correct_C: Sequence[int],
    drawn_C: Sequence[int],
    *,
    samples: int,
    below: float | None = None,
    full: bool = False,
) -> Goal | None:
    """What to find out next for one example; None where its score is settled.

    `correct_C` of `drawn_C` answers were right so far, of at most `samples` per checkpoint. With `below` only whether the
    score is under it is to be settled, which takes fewer; with `full` the score as it stood at every checkpoint.
    """
    if full:
        return _next_of_all(memorized_C, correct_C, drawn_C, samples=samples)
    enough = samples if below is None else min(samples, ceil(round(below * samples, 9)))
    last = len(memorized_C) - 1
    if not memorized_C[last]:  # the maximum is at least the cap, so the cap is the score
        return _open(Goal(last, -1 if below is None else enough - 1, enough), correct_C, drawn_C, samples)
    best = 0
    for checkpoint in range(last - 1, -1, -1):
        if memorized_C[checkpoint]:
            continue
        if best >= enough:
            break
        # It may still be, or become, the maximum.
        goal = Goal(checkpoint, best if below is None else enough - 1, enough)
        if _open(goal, correct_C, drawn_C, samples):
            return goal
        best = max(best, correct_C[checkpoint])
    if best == 0 or (below is not None and best < enough):
        return None
    cap = Goal(last, -1, best) if below is None else Goal(last, enough - 1, enough)
    return _open(cap, correct_C, drawn_C, samples)


def next_draw(
    memorized_C: Sequence[bool],
    correct_C: Sequence[int],
    drawn_C: Sequence[int],
    *,
    samples: int,
    below: float | None = None,
    full: bool = False,
) -> Draw | None:
    """What to draw next for one example; None where its score is settled. The arguments are those of `next_goal`."""
    goal = next_goal(memorized_C, correct_C, drawn_C, samples=samples, below=below, full=full)
    if goal is None:
        return None
    return Draw(goal.checkpoint, goal.more(correct_C[goal.checkpoint], drawn_C[goal.checkpoint], samples=samples))


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
    memorized_C: Sequence[bool], outcome_CS: Sequence[Sequence[bool]], *, below: float | None = None, full: bool = False
) -> tuple[list[int], list[int]]:
    """How many answers would have been right, and how many drawn, per checkpoint, where all outcomes are known.

    `outcome_CS` says of each sample, in the order of drawing, whether it was right.
    """
    samples = len(outcome_CS[0])
    correct_C = [0] * len(memorized_C)
    drawn_C = [0] * len(memorized_C)
    while (draw := next_draw(memorized_C, correct_C, drawn_C, samples=samples, below=below, full=full)) is not None:
        known = drawn_C[draw.checkpoint]
        correct_C[draw.checkpoint] += sum(outcome_CS[draw.checkpoint][known : known + draw.samples])
        drawn_C[draw.checkpoint] = known + draw.samples
    return correct_C, drawn_C


def _next_of_all(
    memorized_C: Sequence[bool], correct_C: Sequence[int], drawn_C: Sequence[int], *, samples: int
) -> Goal | None:
    best = 0
    for checkpoint, known in enumerate(memorized_C):
        goal = Goal(checkpoint, -1, best if known else samples)
        if _open(goal, correct_C, drawn_C, samples):
            return goal
        if not known:
            best = max(best, correct_C[checkpoint])
    return None


def _open(goal: Goal, correct_C: Sequence[int], drawn_C: Sequence[int], samples: int) -> Goal | None:
    at = goal.checkpoint
    return goal if goal.more(correct_C[at], drawn_C[at], samples=samples) else None
