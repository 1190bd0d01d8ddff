"""The template of a run's job: the one that was given, or the one that the run's own rows tell; and what to say of it."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from premem.client.client import Client
from premem.errors import InputError
from premem.training.forms import Forms, Pair, Row, Verdict, said
from premem.training.trained import TrainedRow, trained_rows
from premem.wire.datasets import Dataset
from premem.wire.jobs import Sampling, Template

PREVIEWED = 100
"""Rows, the most that the service shows."""
PLAIN = Template(prompt="{question}", target="{trace}")
UNKNOWN = "so it is not known whether prompt and target are those that this run trains on (template)"


@dataclass(frozen=True, slots=True)
class Look:
    """What could be seen of a run's training data before its first step."""

    forms: Forms | None = None
    rows: list[TrainedRow] = field(default_factory=list)
    fault: str = ""
    """Why there is nothing."""

    @classmethod
    def at(cls, loader: Any, tokenizer: Any, *, ends: Collection[int] = (), packed: bool = False) -> Look:
        """Taken in the thread that trains, since the run's data and generators are its own."""
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # a processor's
        if not hasattr(tokenizer, "all_special_ids"):
            return cls(fault="the Trainer has no tokenizer as its processing_class")
        try:
            rows = trained_rows(loader)
        except InputError as error:
            return cls(fault=str(error))
        own = copy.deepcopy(tokenizer)  # a collator may pad with the Trainer's at the same time, in another thread
        own.model_max_length = 10**9  # nothing is cut here, so nothing is to be warned of
        return cls(Forms(own, ends=ends, packed=packed), rows)


@dataclass(frozen=True, slots=True)
class Agreement:
    template: Template
    stop: list[str] | None = None
    """With which sampling stops; None: as it was."""
    remarks: list[str] = field(default_factory=list)


def agreed(look: Look, client: Client, dataset: str, *, given: Template | None, sampling: Sampling) -> Agreement:
    """The template by which `dataset` is scored. Raises InputError where no template gives what the run trains on.

    A `given` one is kept and held to the run's rows; without, it is the paper's, a chat, or what stands around question
    and trace in the rows themselves.
    """
    template = given or Template()
    if look.forms is None:
        return Agreement(template, remarks=[f"{look.fault}, {UNKNOWN}"])
    preview = client.preview(dataset, rows=PREVIEWED, template=PLAIN)
    rows = [Row(question=row.prompt, trace=row.target) for row in preview.rows]
    pairs = look.forms.pairs(rows, look.rows)
    if not pairs:
        none = f"none of the first {len(rows)} rows of {dataset} was found among {len(look.rows)} rows that this run trains on"
        return Agreement(template, remarks=[f"{none}, {UNKNOWN}"])
    if given is not None:
        return _held_to(look.forms, pairs, given, sampling.stop, preview.dataset)
    chosen = look.forms.chosen(pairs, stop=sampling.stop)
    if chosen is None:
        why = look.forms.judged(Template(), pairs).of("text")[0]
        raise InputError(f"no template gives what this run trains on: {why}{_hint(preview.dataset)}")
    stop = _stop(chosen, rows, sampling)
    if stop is not None:
        chosen = look.forms.judged(chosen.template, pairs, stop=stop)
    taken = [] if chosen.template == Template() else [f"as this run's rows are written, {said(chosen.template)}"]
    return Agreement(chosen.template, stop, [*taken, *_remarks(chosen, len(pairs))])


def _held_to(forms: Forms, pairs: Sequence[Pair], given: Template, stop: Sequence[str], dataset: Dataset) -> Agreement:
    verdict = forms.judged(given, pairs, stop=stop)
    if verdict.fits and not verdict.faults:
        return Agreement(given, remarks=_remarks(verdict, len(pairs)))
    other = forms.chosen(pairs, stop=stop)
    if other is None and not any(pair.whole for pair in pairs):
        why = verdict.of("text")[0]
        raise InputError(f"{said(given)} does not give what this run trains on: {why}{_hint(dataset)}")
    better = other is not None and (not verdict.fits or other.faults < verdict.faults)
    what = f"set {said(other.template)}" if better and other else "no template gives it exactly"
    why = (verdict.of("text") or verdict.of("labels", "behind"))[0]
    wrong = f"{said(given)} does not give what this run trains on, and what is scored is not what was learned: {why}; {what}"
    return Agreement(given, remarks=[wrong])


def _hint(dataset: Dataset) -> str:
    if not dataset.chats:
        return ""
    return (
        f". {dataset.chats} rows hold earlier turns or a system message, which are not scored yet as they are trained on; a "
        "system message that all rows share is: upload question and answer as columns, and nothing before them"
    )


def _stop(chosen: Verdict, rows: Sequence[Row], sampling: Sampling) -> list[str] | None:
    """Where no end token is trained on, the text that ends the target, unless it stands within a trace."""
    if chosen.template.chat or "stop" in sampling.model_fields_set or not chosen.of("end"):
        return None
    end = chosen.template.target.rpartition("{trace}")[2]
    return [end] if end and not any(end in row.trace for row in rows) else None


def _remarks(verdict: Verdict, pairs: int) -> list[str]:
    found = verdict.of("labels", "behind", "end")
    if verdict.cut:
        found.append(
            f"{verdict.cut} of {pairs} rows looked at are cut before their end in training (max_length); the whole is scored"
        )
    return found
