"""What others logged of a preference run: families over evaluations, and what they can and cannot say.

Two formats are read. The authors of "Learning Dynamics of LLM Finetuning" (Ren and Sutherland, arXiv 2407.10490) log one
JSON object per evaluation with the *mean* over prompts of each family's summed log-probability
(`logps_eval_prob_train/chosen`, …), their `prob_*_metrics.json`; without single prompts there is no interval. The long
format (`premem.dynamics.long_format`) has a line per text, and gets verdicts.

Shapes: T evaluations.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from premem.dynamics.bootstrap import mean_intervals
from premem.dynamics.lines import numbered_lines
from premem.dynamics.long_format import RecordedProbe, read_long
from premem.dynamics.restarts import Line, runs_of
from premem.dynamics.series import Series, best_so_far, series, twice_in_a_row
from premem.dynamics.softmax import Floats
from premem.dynamics.statistics import Change
from premem.errors import BadLine, InputError, RowsError

FAMILY = re.compile(r"logps_eval_prob_(?P<part>\w+)/(?P<family>.+)")
ARGMAX = "argmax_prob_logits"


@dataclass(frozen=True, slots=True)
class ResponseFloors:
    """How far a mean over prompts must have moved to count, in nats per response: there are no tokens to divide by."""

    chosen: float = -0.6
    rejected: float = -0.6
    argmax: float = 1.2


@dataclass(frozen=True, slots=True)
class Firings:
    """At which evaluations chosen had fallen while the argmax had risen (and rejected fallen, where it is logged)."""

    at: tuple[int, ...]
    counted: tuple[int, ...]
    """Those that come right behind another one."""
    last_fires: bool


@dataclass(frozen=True, slots=True)
class AsLogged:
    """Chosen beside the logged argmax column. Where that column is refused this says nothing of a squeeze."""

    correlation: float | None
    """Of chosen with argmax over evaluations; None where one of them never changes."""
    correlation_second_half: float | None
    since_start: Firings
    since_best: Firings
    """Since the evaluation with the best chosen so far."""


@dataclass(frozen=True, slots=True)
class RecordedLog:
    """One log in the authors' format: its longest run."""

    name: str
    held_out: bool
    """The prompts were not trained on (`logps_eval_prob_test/…`)."""
    lines: int
    runs: tuple[int, ...]
    """How many lines each run in the file has, in the order in which they started; the longest one is used."""
    used_lines: tuple[int, ...]
    """Places of the lines that were used, from 0."""
    column_order: tuple[str, ...]
    """Of the log, with the dropped ones."""
    columns: dict[str, Floats]
    """T numbers of every column that was kept, by its name in the log."""
    families: dict[str, str]
    """Column of each family, in the log's order."""
    nan_fields: tuple[str, ...]
    inf_fields: tuple[str, ...]
    missing_fields: tuple[str, ...]
    """Columns that were dropped: NaN, infinite, or absent at some evaluation."""
    argmax_below_chosen: int
    """Evaluations at which the argmax column lies below chosen, which that of chosen cannot."""
    argmax_refused: str | None
    """Why the argmax column says nothing of chosen; None where it can be used."""

    @property
    def evaluations(self) -> int:
        return len(self.used_lines)

    def family(self, name: str) -> Floats:
        """T means over prompts of the summed log-probability, nats per response."""
        if name not in self.families:
            raise InputError(f"{self.name} has no family {name!r}: it has {', '.join(self.families)}")
        return self.columns[self.families[name]]

    def series(self) -> dict[str, Series]:
        """Start, peak and end of every family, and of the argmax column."""
        found = {name: self.columns[column] for name, column in self.families.items()}
        if ARGMAX in self.columns:
            found[ARGMAX] = self.columns[ARGMAX]
        return {name: series(values) for name, values in found.items()}

    def as_logged(self, floors: ResponseFloors | None = None) -> AsLogged | None:
        """What chosen and the argmax column show together; None where there is no such column."""
        if ARGMAX not in self.columns:
            return None
        chosen, argmax = self.family("chosen"), self.columns[ARGMAX]
        rejected = self.family("rejected") if "rejected" in self.families else None
        half = self.evaluations // 2
        since_start, since_best = firings(chosen, argmax, rejected, floors=floors)
        return AsLogged(
            correlation=_correlation(chosen, argmax),
            correlation_second_half=_correlation(chosen[half:], argmax[half:]),
            since_start=since_start,
            since_best=since_best,
        )

    def warnings(self) -> list[str]:
        """What a reader must know before believing the numbers."""
        told = []
        if len(self.runs) > 1:
            told.append(
                f"{len(self.runs)} runs were written into this file ({', '.join(map(str, self.runs))} lines): the longest "
                f"one is used, {self.evaluations} of {self.lines} lines"
            )
        told += [f"{field} is NaN at some evaluation and was dropped" for field in self.nan_fields]
        told += [f"{field} is infinite at some evaluation and was dropped" for field in self.inf_fields]
        told += [f"{field} is missing at some evaluation and was dropped" for field in self.missing_fields]
        if self.argmax_refused:
            told.append(f"the argmax column is refused: {self.argmax_refused}")
        return told


def read(path: Path) -> RecordedLog | RecordedProbe:
    """A log of either format, told by its first line. Raises InputError where it is of neither."""
    first = next((line for _, line in numbered_lines(path)), "")
    if '"log_probability"' in first:
        return read_long(path)
    if "logps_eval_prob_" in first:
        return read_authors_log(path)
    raise InputError(
        f"{path.name} is no log that is known: its first line holds neither log_probability (the long format, a line per "
        "text) nor logps_eval_prob_train/chosen (the format of the paper's authors, a line per evaluation)"
    )


def read_authors_log(path: Path) -> RecordedLog:
    """One log in the authors' format. Raises RowsError for lines that are no JSON objects of numbers, and InputError
    where there is no chosen family to speak of or only one evaluation."""
    lines = _lines(path)
    runs = runs_of(lines)
    used = max(runs, key=lambda run: (len(run), run[0]))
    if len(used) < 2:
        raise InputError(f"{path.name} holds one evaluation: changes need two")
    kept, nan, infinite, missing = _columns([lines[place] for place in used])
    families = _families(kept)
    if "chosen" not in families:
        raise InputError(
            f"{path.name} has no column logps_eval_prob_train/chosen (or …_test/chosen) with a number at every evaluation"
        )
    chosen = kept[families["chosen"]]
    below = int((kept[ARGMAX] < chosen).sum()) if ARGMAX in kept else 0
    return RecordedLog(
        name=path.name,
        held_out="_test/" in families["chosen"],
        lines=len(lines),
        runs=tuple(len(run) for run in runs),
        used_lines=tuple(used),
        column_order=tuple(dict.fromkeys(name for place in used for name in lines[place])),
        columns=kept,
        families=families,
        nan_fields=nan,
        inf_fields=infinite,
        missing_fields=missing,
        argmax_below_chosen=below,
        argmax_refused=_refused(list(families), below, len(used)) if ARGMAX in kept else None,
    )


def _lines(path: Path) -> list[Line]:
    lines: list[Line] = []
    bad: list[BadLine] = []
    for number, text in numbered_lines(path):
        try:
            found = json.loads(text)
        except ValueError as error:
            bad.append(BadLine(number, None, f"is no JSON ({error}); was it cut off, or written by two processes?"))
            continue
        if not isinstance(found, dict):
            bad.append(BadLine(number, None, "is no JSON object of columns and numbers"))
            continue
        numbers = {key: math.nan if value is None else value for key, value in found.items()}
        wrong = [key for key, value in numbers.items() if isinstance(value, bool) or not isinstance(value, int | float)]
        bad += [BadLine(number, key, "is no number") for key in wrong]
        lines.append({key: float(value) for key, value in numbers.items() if key not in wrong})
    if bad:
        raise RowsError(f"{path.name}: {bad[0]}; correct or remove the line", bad)
    if not lines:
        raise InputError(f"{path.name} is empty")
    return lines


def _families(columns: Iterable[str]) -> dict[str, str]:
    """Column of each family. Where trained and held-out prompts stand in one log, those of the part that comes second are
    named with it: test/chosen."""
    found = [(match["part"], match["family"], column) for column in columns if (match := FAMILY.fullmatch(column))]
    return {family if part == found[0][0] else f"{part}/{family}": column for part, family, column in found}


def _columns(
    lines: Sequence[Line],
) -> tuple[dict[str, Floats], tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The columns with a finite number at every evaluation, and the names of those with NaN, infinite or no number."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    missing = [name for name in names if any(name not in line for line in lines)]
    values = {name: np.array([line[name] for line in lines]) for name in names if name not in missing}
    nan = [name for name, column in values.items() if np.isnan(column).any()]
    infinite = [name for name, column in values.items() if np.isinf(column).any()]
    kept = {name: column for name, column in values.items() if name not in nan and name not in infinite}
    return kept, tuple(nan), tuple(infinite), tuple(missing)


def _refused(families: list[str], below: int, evaluations: int) -> str | None:
    """Why the argmax column is not that of chosen. The authors' code overwrites it family by family."""
    if len(families) > 1:
        return (
            f"the log has {len(families)} families and one argmax column, which is that of the family logged last "
            f"({families[-1]}), not of chosen"
        )
    if below:
        return (
            f"it lies below chosen at {below} of {evaluations} evaluations, and the likeliest tokens cannot be less "
            "likely than the chosen ones"
        )
    return None


def firings(
    chosen: ArrayLike, argmax: ArrayLike, rejected: ArrayLike | None = None, *, floors: ResponseFloors | None = None
) -> tuple[Firings, Firings]:
    """When the rule fires since the start, and since the best chosen so far; T means each, in nats per response.

    It fires when chosen and rejected fell below their floors and argmax rose above its own: squeezing, judged by means
    alone, so without an interval. Without `rejected` the other two parts decide.
    """
    floors = floors or ResponseFloors()
    c, m = np.asarray(chosen, dtype=np.float64), np.asarray(argmax, dtype=np.float64)
    r = None if rejected is None else np.asarray(rejected, dtype=np.float64)

    def since(origin_T: list[int]) -> Firings:
        fires_T = (c - c[origin_T] < floors.chosen) & (m - m[origin_T] > floors.argmax)
        if r is not None:
            fires_T &= r - r[origin_T] < floors.rejected
        counted_T = twice_in_a_row(fires_T.tolist())
        return Firings(
            at=tuple(np.flatnonzero(fires_T).tolist()),
            counted=tuple(np.flatnonzero(counted_T).tolist()),
            last_fires=bool(fires_T[-1]),
        )

    return since([0] * len(c)), since(best_so_far(c.tolist()))


def _correlation(one: Floats, other: Floats) -> float | None:
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])


@dataclass(frozen=True, slots=True)
class PerPrompt:
    """What the authors keep beside a log: every column of every prompt."""

    columns: dict[str, Floats]
    """T × prompts each, by its name in the log."""
    argmax_below_chosen: int
    """Prompts whose argmax lies below chosen at the first evaluation; above 0 it is not that of chosen."""
    changes: dict[str, Change]
    """Mean change of each family from the first evaluation to the last, over prompts, in nats per response."""


def read_per_prompt(path: Path, log: RecordedLog) -> PerPrompt:
    """The authors' per-prompt array (T × columns × prompts, `.npy`) beside its log, whose means it must have.

    Raises InputError where the array is of another log: other evaluations, or means that differ by more than 1e-6.
    """
    try:
        values = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{path.name} is no array of numbers: {error}") from error
    if values.ndim != 3 or values.shape[:2] != (log.evaluations, len(log.column_order)):
        raise InputError(
            f"{path.name} has the shape {values.shape}: {log.name} has {log.evaluations} evaluations of "
            f"{len(log.column_order)} columns"
        )
    columns = {name: values[:, place].astype(np.float64) for place, name in enumerate(log.column_order)}
    for name, logged in log.columns.items():
        apart = float(np.abs(columns[name].mean(axis=1) - logged).max())
        if apart > 1e-6 * max(1.0, float(np.abs(logged).max())):
            raise InputError(f"{path.name} is not of {log.name}: the means of {name} differ by {apart:.3g}")
    chosen = columns[log.families["chosen"]]
    below = int((columns[ARGMAX][0] < chosen[0]).sum()) if ARGMAX in columns else 0
    change_EF = np.stack([columns[column][-1] - columns[column][0] for column in log.families.values()], axis=1)
    low_F, high_F = mean_intervals(change_EF)
    changes = {
        name: Change(float(mean), float(low), float(high))
        for name, mean, low, high in zip(log.families, change_EF.mean(axis=0), low_F, high_F, strict=True)
    }
    return PerPrompt(columns, below, changes)
