"""A recorded probe in the long format: one line per checkpoint, row, family and draw, as a probe's own result has it.

{"checkpoint": "step-100", "row": 7, "family": "chosen", "log_probability": -41.2, "tokens": 30, "argmax": -20.5}

`part` (`train`, the default, or `holdout`), `draw` (0) and `prompt` (a text or id, to find prompts that repeat) may be
added; other fields are ignored. `argmax` is that of the line's own family: the sum of the largest log-probability at
each of its places. Checkpoints are in the order of their first lines; the first one is the reference.

Shapes: C checkpoints, E pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from premem.dynamics.advice import Advice, Occasion, advice, rejected_is_longer
from premem.dynamics.lines import numbered_lines
from premem.dynamics.series import Series, series
from premem.dynamics.softmax import Floats
from premem.dynamics.statistics import (
    Evaluation,
    Floors,
    best_checkpoint,
    evaluations,
    margin_accuracy,
    margins,
    train_only,
)
from premem.errors import BadLine, InputError, RowsError

Part = Literal["train", "holdout"]
TOLERANCE = 1e-3
"""Nats by which a float32 sum may break what must hold."""


class LongLine(BaseModel, frozen=True):
    """One text, scored at one checkpoint."""

    checkpoint: str = Field(min_length=1)
    part: Part = "train"
    row: int = Field(ge=0)
    family: str = Field(min_length=1)
    draw: int = Field(default=0, ge=0)
    log_probability: FiniteFloat
    tokens: int = Field(ge=1)
    argmax: FiniteFloat | None = None
    prompt: str | None = None


Key = tuple[int, str, int]
"""Row, family, draw."""


@dataclass(frozen=True, slots=True)
class PartOfProbe:
    """The trained prompts or those held out: pairs that were scored at every checkpoint."""

    rows: tuple[int, ...]
    left_out: int
    """Rows that lack chosen, or rejected where others have it, at some checkpoint."""
    families: dict[str, Series]
    """Means over texts of the summed log-probability, nats per response, over checkpoints."""
    evaluations: tuple[Evaluation, ...]
    """One for each checkpoint behind the reference."""
    margin_accuracy: tuple[float, ...] | None
    """Of the same checkpoints; None where rejected was not scored."""
    argmax_refused: str | None
    """Why the argmax of chosen was not used; None where it was."""
    rejected_is_longer: bool
    """Of the pairs whose chosen fell in the end, most have a rejected answer with more tokens."""


@dataclass(frozen=True, slots=True)
class RecordedProbe:
    """A log in the long format."""

    name: str
    checkpoints: tuple[str, ...]
    parts: dict[Part, PartOfProbe]

    def train_only(self) -> bool:
        """At the last checkpoint chosen holds on trained prompts and falls on held-out ones."""
        both = [self.parts[part].evaluations[-1].since_reference for part in ("train", "holdout") if part in self.parts]
        return len(both) == 2 and train_only(*both)

    def best_checkpoint(self) -> str | None:
        """The best one by held-out prompts; None without them, without rejected, or where all have a verdict."""
        held = self.parts.get("holdout")
        if held is None or held.margin_accuracy is None:
            return None
        place = best_checkpoint(held.margin_accuracy, [one.since_reference for one in held.evaluations])
        return None if place is None else self.checkpoints[place + 1]

    def advice(self) -> list[Advice]:
        """What to try after the last checkpoint."""
        occasions: list[Occasion] = ["train_only"] if self.train_only() else []
        for part in self.parts.values():
            last = part.evaluations[-1].since_reference.name
            if last == "refused" or last == "none":
                continue
            occasions.append(last)
            if part.rejected_is_longer:
                occasions.append("rejected_longer")
        return advice(*occasions)

    def warnings(self) -> list[str]:
        """What a reader must know before believing the numbers."""
        told = []
        for part, found in self.parts.items():
            if found.left_out:
                told.append(
                    f"{part}: {found.left_out:,} rows lack chosen or rejected at some checkpoint and were left out"
                )
            if found.argmax_refused:
                told.append(f"{part}: the argmax is refused: {found.argmax_refused}")
        return told


def read_long(path: Path, *, floors: Floors | None = None) -> RecordedProbe:
    """A log in the long format, with its verdicts. Raises RowsError naming lines that cannot be taken: a field that is
    missing or not finite, a text that was scored twice, a probability above 1, tokens that differ between checkpoints."""
    by_part: dict[Part, dict[str, dict[Key, LongLine]]] = {}
    checkpoints: dict[str, None] = {}
    bad: list[BadLine] = []
    tokens: dict[tuple[Part, Key], int] = {}
    for number, text in numbered_lines(path):
        try:
            line = LongLine.model_validate_json(text)
        except ValidationError as error:
            bad += [BadLine(number, ".".join(map(str, one["loc"])) or None, one["msg"]) for one in error.errors()]
            continue
        checkpoints.setdefault(line.checkpoint)
        key = (line.row, line.family, line.draw)
        there = by_part.setdefault(line.part, {}).setdefault(line.checkpoint, {})
        if wrong := _wrong(line, there.get(key), tokens.setdefault((line.part, key), line.tokens)):
            bad.append(BadLine(number, *wrong))
        there[key] = line
    if bad:
        raise RowsError(f"{path.name}: {bad[0]}", bad)
    if len(checkpoints) < 2:
        raise InputError(f"{path.name} holds {len(checkpoints)} checkpoints: changes need two")
    parts = {part: _part(part, at, list(checkpoints), floors) for part, at in sorted(by_part.items())}
    return RecordedProbe(path.name, tuple(checkpoints), parts)


def _wrong(line: LongLine, before: LongLine | None, tokens: int) -> tuple[str, str] | None:
    """The field that breaks what must hold of scored texts, and how."""
    text = f"row {line.row}, {line.family}, draw {line.draw}"
    if before is not None:
        return "row", f"{text} was scored twice at checkpoint {line.checkpoint}"
    if line.log_probability > TOLERANCE * line.tokens:
        return "log_probability", f"{text} has a log-probability above 0"
    if line.tokens != tokens:
        return (
            "tokens",
            f"{text} has {line.tokens} tokens here and {tokens} at an earlier checkpoint: another tokenizer?",
        )
    return None


def _part(
    part: Part, at: Mapping[str, Mapping[Key, LongLine]], checkpoints: Sequence[str], floors: Floors | None
) -> PartOfProbe:
    everywhere = set.intersection(*(set(at.get(name, {})) for name in checkpoints))
    first = at.get(checkpoints[0], {})
    wanted = {"chosen", "rejected"} & {family for lines in at.values() for _, family, _ in lines}
    rows = {row for lines in at.values() for row, _, _ in lines}
    kept = sorted(row for row in rows if all((row, family, 0) in everywhere for family in wanted))
    if "chosen" not in wanted or not kept:
        raise InputError(f"no row of the part {part} has the family chosen at every checkpoint")

    def sums(family: str, *, argmax: bool = False) -> Floats:
        """C × E."""
        lines_CE = [[at[name][row, family, 0] for row in kept] for name in checkpoints]
        return np.array(
            [[line.argmax if argmax else line.log_probability for line in lines] for lines in lines_CE], float
        )

    def tokens(family: str) -> list[int]:
        return [first[row, family, 0].tokens for row in kept]

    chosen_CE, rejected_CE = sums("chosen"), sums("rejected") if "rejected" in wanted else None
    argmax_CE = sums("chosen", argmax=True)
    refused = _refused(argmax_CE, chosen_CE)
    prompts = [prompt for row in kept if (prompt := first[row, "chosen", 0].prompt) is not None]
    accuracy, longer = None, False
    if rejected_CE is not None:
        fell_E = chosen_CE[-1] < chosen_CE[0]
        longer = rejected_is_longer(np.array(tokens("chosen"))[fell_E], np.array(tokens("rejected"))[fell_E])
        accuracy = tuple(
            margin_accuracy(margins(c, r, chosen_CE[0], rejected_CE[0]))
            for c, r in zip(chosen_CE[1:], rejected_CE[1:], strict=True)
        )
    return PartOfProbe(
        rows=tuple(kept),
        left_out=len(rows) - len(kept),
        families=_families(at, checkpoints, everywhere),
        evaluations=tuple(
            evaluations(
                chosen_CE,
                tokens("chosen"),
                rejected_CE=rejected_CE,
                tokens_rejected=tokens("rejected") if rejected_CE is not None else None,
                argmax_CE=None if refused else argmax_CE,
                clusters=prompts if len(prompts) == len(kept) else None,
                floors=floors,
            )
        ),
        margin_accuracy=accuracy,
        argmax_refused=refused,
        rejected_is_longer=longer,
    )


def _refused(argmax_CE: Floats, chosen_CE: Floats) -> str | None:
    if np.isnan(argmax_CE).any():
        return f"{int(np.isnan(argmax_CE).any(axis=0).sum()):,} rows have none at some checkpoint"
    broken = int((argmax_CE < chosen_CE - TOLERANCE).any(axis=0).sum())
    if broken:
        return (
            f"in {broken:,} of {chosen_CE.shape[1]:,} rows it lies below chosen, and the likeliest tokens cannot be less "
            "likely than the chosen ones: it is of another family"
        )
    return None


def _families(
    at: Mapping[str, Mapping[Key, LongLine]], checkpoints: Sequence[str], everywhere: set[Key]
) -> dict[str, Series]:
    found = {}
    for family in dict.fromkeys(family for lines in at.values() for _, family, _ in lines):
        keys = [key for key in everywhere if key[1] == family]
        if keys:
            found[family] = series([np.mean([at[name][key].log_probability for key in keys]) for name in checkpoints])
    return found
