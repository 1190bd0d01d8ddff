"""Which samples still have to be drawn: those that can change an example's final score.

The score is min(max over unmemorized m of accuracy_m, accuracy at the last checkpoint). So

- an example that is memorized at every checkpoint needs no samples;
- an example that is not memorized at the last checkpoint needs only samples of that checkpoint;
- any other example is sampled from the last unmemorized checkpoint backwards. The last checkpoint only limits the score,
  so it comes at the end, and only if the maximum is above 0.

Within a checkpoint, drawing stops when the remaining samples cannot matter. Every sample has its own seed, so the score is
the one that all samples would have given.

With a full trajectory, all samples of every unmemorized checkpoint are drawn, and of a memorized one those that limit the
maximum before it. Then the score at every checkpoint is known.

Shapes: C checkpoints in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class Goal:
    """What has to be found out about one example at one checkpoint, however many samples that takes."""

    checkpoint: int
    floor: int
    """It is enough to know that no more than so many of all answers can be right; -1: it is not."""
    ceiling: int
    """It is enough to know that so many are."""

    def more(self, correct: int, drawn: int, *, samples: int) -> int:
        """How many more samples are certainly needed when `correct` of `drawn` are right. 0: the goal is reached."""
        reach = correct + samples - drawn
        if correct >= self.ceiling or reach <= self.floor or drawn >= samples:
            return 0
        return min(self.ceiling - correct, reach - self.floor, samples - drawn)


@dataclass(frozen=True, slots=True)
class Draw:
    """Samples of one example at one checkpoint that are certainly needed."""

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
    """What to find out next about one example. None: its score is certain.

    So far `correct_C` of `drawn_C` answers were right, out of at most `samples` per checkpoint. With `below`, it only has to
    become certain whether the score is under it, which takes fewer samples; with `full`, the score at every checkpoint.
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
    """What to draw next for one example. None: its score is certain. The arguments are those of `next_goal`."""
    goal = next_goal(memorized_C, correct_C, drawn_C, samples=samples, below=below, full=full)
    if goal is None:
        return None
    return Draw(goal.checkpoint, goal.more(correct_C[goal.checkpoint], drawn_C[goal.checkpoint], samples=samples))


def settled_score(
    memorized_C: Sequence[bool], correct_C: Sequence[int], drawn_C: Sequence[int], *, samples: int
) -> float:
    """The final score, once `next_draw` returns None."""
    last = len(memorized_C) - 1
    if not memorized_C[last]:
        return correct_C[last] / samples
    best = max((right for right, known in zip(correct_C, memorized_C, strict=True) if not known), default=0)
    return min(best, correct_C[last]) / samples


def replay(
    memorized_C: Sequence[bool], outcome_CS: Sequence[Sequence[bool]], *, below: float | None = None, full: bool = False
) -> tuple[list[int], list[int]]:
    """Per checkpoint, how many answers would have been right and how many drawn, when all outcomes are known.

    `outcome_CS` says whether each sample was right, in the order of drawing.
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
