"""Which lines of a log belong to one run, where a run was started again into the same file.

A run that starts again scores the same model on the same texts first, so its first line repeats the log's first line, and
the next ones repeat those of the earlier run for as long as both do the same. Two processes may write at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Line = Mapping[str, float]
SAME = 1e-6
"""Relative; a repeated line differs by less, in every column."""


def runs_of(lines: Sequence[Line]) -> list[list[int]]:
    """The places of each run's lines, runs in the order in which they started.

    1. A line that equals the log's first line starts a run.
    2. A line that equals the next line of another run which this run has repeated so far belongs to this run.
    3. Any other line belongs to the latest run where that has caught up with all others, or has left their path.
    4. Otherwise two runs come into question. If an earlier run has gone on since the latest one started, or the latest
       one repeats it further down, both write at once, and the line is the earlier run's.
    5. If not, the latest run has left the path of the others here: other settings, or another order of the data.
    """
    runs: list[list[int]] = []
    parted: set[int] = set()
    for place, line in enumerate(lines):
        if not runs or same_line(line, lines[0]):
            runs.append([place])
            continue
        owner = _repeating(line, lines, runs, parted)
        if owner is None:
            owner = _going_on(place, lines, runs, parted)
        runs[owner].append(place)
    return runs


def same_line(one: Line, other: Line) -> bool:
    """Equal in every finite number of the columns that both have, of which there must be one."""
    shared = [key for key in one if key in other and math.isfinite(one[key]) and math.isfinite(other[key])]
    return bool(shared) and all(math.isclose(one[key], other[key], rel_tol=SAME) for key in shared)


def _repeating(line: Line, lines: Sequence[Line], runs: list[list[int]], parted: set[int]) -> int | None:
    """The latest run that this line continues along the path of a longer one."""
    for r in reversed(range(len(runs))):
        ahead = [run for o, run in enumerate(runs) if o != r and len(run) > len(runs[r])]
        if r not in parted and any(same_line(line, lines[run[len(runs[r])]]) for run in ahead):
            return r
    return None


def _going_on(place: int, lines: Sequence[Line], runs: list[list[int]], parted: set[int]) -> int:
    """The run of a line that repeats nothing."""
    latest, reached = len(runs) - 1, len(runs[-1])
    ahead = [o for o in range(latest) if len(runs[o]) > reached]
    if latest in parted or not ahead:
        return latest
    alive = max(range(latest), key=lambda o: runs[o][-1])
    if runs[alive][-1] > runs[latest][0]:
        return alive
    longest = max(ahead, key=lambda o: len(runs[o]))
    awaited = lines[runs[longest][reached]]
    if any(same_line(awaited, later) for later in lines[place + 1 :]):
        return longest
    parted.add(latest)
    return latest
