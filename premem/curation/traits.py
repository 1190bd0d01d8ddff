"""What chosen examples have in common, against the rest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from premem.records import Example

Floats = NDArray[np.float64]

_INTEGER = re.compile(r"[+-]?\d{1,3}(,?\d{3})*|[+-]?\d+")
_DECIMAL = re.compile(r"[+-]?[\d,]*\.\d+")
_FRACTION = re.compile(r"[+-]?\d+\s*/\s*\d+|\\d?frac\{.*")
_MARK = re.compile(r"####\s*(.+?)\s*$|\\boxed\{(.+)\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Trait:
    """One measure of the chosen examples beside the rest."""

    name: str
    chosen: float
    """Mean over the chosen examples; a share for a kind of answer."""
    rest: float
    effect: float
    """Cliff's delta in [−1, 1]: how much likelier a chosen example exceeds one of the rest than the other way round.
    Of shares: their difference."""


def traits(examples: Sequence[Example], chosen_E: NDArray[np.bool_]) -> list[Trait]:
    """Largest effect first. Empty where nothing, or everything, was chosen: there is nothing to compare."""
    if not chosen_E.any() or chosen_E.all():
        return []
    measures = {
        "words in the question": [len(example.question.split()) for example in examples],
        "words in the trace": [len(example.trace.split()) for example in examples],
        "steps in the trace": [steps(example.trace) for example in examples],
    }
    found = []
    for name, values in measures.items():
        value_E = np.array(values, dtype=np.float64)
        delta = cliffs_delta(value_E[chosen_E], value_E[~chosen_E])
        found.append(Trait(name, float(value_E[chosen_E].mean()), float(value_E[~chosen_E].mean()), delta))
    kinds = np.array([answer_kind(example) for example in examples])
    for kind in sorted(set(kinds)):
        chosen, rest = float((kinds[chosen_E] == kind).mean()), float((kinds[~chosen_E] == kind).mean())
        found.append(Trait(f"answer is {kind}", chosen, rest, chosen - rest))
    return sorted(found, key=lambda trait: -abs(trait.effect))


def cliffs_delta(one: Floats, other: Floats) -> float:
    """P(x > y) − P(x < y) for x of the one and y of the other, in n log n."""
    ordered = np.sort(other)
    below = np.searchsorted(ordered, one, side="left").sum()
    above = (len(ordered) - np.searchsorted(ordered, one, side="right")).sum()
    return float(below - above) / (len(one) * len(other))


def steps(trace: str) -> int:
    """Lines that say something, the one with the final answer left out."""
    return sum(1 for line in trace.splitlines() if line.strip() and not line.lstrip().startswith("####"))


def answer_kind(example: Example) -> str:
    """integer, decimal, fraction or text, by the form of the reference's final answer."""
    answer = example.final_answer
    if answer is None:
        marked = _MARK.search(example.trace)
        answer = (marked[1] or marked[2]) if marked else example.trace.split()[-1] if example.trace.split() else ""
    bare = answer.strip().strip("$%€£. ").replace("\\!", "")
    for kind, pattern in (("integer", _INTEGER), ("decimal", _DECIMAL), ("fraction", _FRACTION)):
        if pattern.fullmatch(bare):
            return f"{'an' if kind == 'integer' else 'a'} {kind}"
    return "text"
