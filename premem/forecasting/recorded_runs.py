"""Runs that others recorded: the folders that the authors of the metric published with their paper.

A run is a folder of `checkpoint-<step>` folders, each with `train_answer_types…npy` and `test_answer_types…npy`
(examples × samples; 0 right, 1 wrong, 2 no answer) and `train_perplexities.npy` (one per example). A checkpoint without
any `test_answer_types…npy` has no test accuracy. Files of several sample counts may lie side by side, named as
`train_answer_types5_seed2_temp0.8.npy`: 5 answers, drawn with seed 2 at temperature 0.8.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from premem.errors import InputError
from premem.forecasting.runs import Floats, ScoredRun

_SAMPLED = re.compile(r"_answer_types(?P<samples>[0-9]*)(?:_seed[0-9]+)?(?:_temp(?P<temperature>[0-9.]+))?\.npy$")
_RIGHT, _NO_ANSWER = 0, 2
Array = NDArray[Any]
_LEARNING_RATE = re.compile(r"_lr([0-9.]+(?:e-?[0-9]+)?)")


def read_runs(folder: Path) -> list[ScoredRun]:
    """Every run in the folder, by name, or the one that it is. Raises InputError, naming the file, where one is unfit."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: name the one that holds the recorded runs")
    if any(folder.glob("checkpoint-*")):
        return [read_run(folder.absolute())]  # "." has no name
    runs = [read_run(path) for path in sorted(folder.iterdir()) if any(path.glob("checkpoint-*"))]
    if not runs:
        raise InputError(f"{folder} holds no run: a run is a folder of checkpoint-<step> folders")
    return runs


def read_run(folder: Path) -> ScoredRun:
    """One run. A run on a part of the training set (no `full` in its name) is cut to `subsample_idxs.npy`."""
    checkpoints = sorted(folder.glob("checkpoint-*"), key=_step)
    train = [_answers(checkpoint, "train") for checkpoint in checkpoints]
    _alike(train, folder)
    perplexity_CE = np.stack(_alike([_perplexities(checkpoint) for checkpoint in checkpoints], folder))
    accuracy_CE = np.stack([(answers_ES == _RIGHT).mean(axis=1) for answers_ES in train])
    if accuracy_CE.shape != perplexity_CE.shape:
        raise InputError(
            f"{folder}: answers to {accuracy_CE.shape[1]} examples, perplexities of {perplexity_CE.shape[1]}"
        )
    trained_E = np.ones(accuracy_CE.shape[1], dtype=bool)
    if "full" not in folder.name:
        path = folder / "subsample_idxs.npy"
        if not path.exists():
            raise InputError(
                f"{path} is missing: without `full` in its folder's name a run counts as trained on a part of the examples, "
                "and this file names them; add it, or put `full` into the name"
            )
        trained_E = _trained(path, examples=len(trained_E))
    some_untrained = not trained_E.all()
    tests = [_answers(checkpoint, "test") if _tested(checkpoint) else None for checkpoint in checkpoints]
    _alike([test for test in tests if test is not None], folder, of="test questions")
    found = _LEARNING_RATE.search(folder.name)
    return ScoredRun(
        name=folder.name,
        checkpoints=tuple(checkpoint.name for checkpoint in checkpoints),
        accuracy_CE=accuracy_CE[:, trained_E],
        perplexity_CE=perplexity_CE[:, trained_E],
        samples=min(answers_ES.shape[1] for answers_ES in train),  # the least sure, where they differ
        test_accuracy_C=np.array([np.nan if test is None else (test == _RIGHT).mean() for test in tests]),
        learning_rate=float(found[1]) if found else None,
        untrained_accuracy_C=accuracy_CE[:, ~trained_E].mean(axis=1) if some_untrained else None,
        untrained_perplexity_CU=perplexity_CE[:, ~trained_E] if some_untrained else None,
        row_E=np.flatnonzero(trained_E) if some_untrained else None,
        test_examples=next((len(test) for test in tests if test is not None), None),
    )


def _alike(rows: list[Array], folder: Path, *, of: str = "examples") -> list[Array]:
    sizes = sorted({len(row) for row in rows})
    if len(sizes) > 1:
        raise InputError(f"{folder}: its checkpoints hold different numbers of {of}, {sizes[0]} and {sizes[-1]}")
    return rows


def _trained(path: Path, *, examples: int) -> NDArray[np.bool_]:
    indices = _load(path, dimensions=1)
    if not np.isin(indices, np.arange(examples)).all():
        raise InputError(f"{path} must name examples from 0 to {examples - 1}, as whole numbers")
    trained_E = np.zeros(examples, dtype=bool)
    trained_E[indices.astype(np.int64)] = True
    return trained_E


def _perplexities(checkpoint: Path) -> Floats:
    path = checkpoint / "train_perplexities.npy"
    perplexity_E = _load(path, dimensions=1)
    wrong = np.flatnonzero(~(perplexity_E >= 1.0) | np.isinf(perplexity_E))
    if wrong.size:
        raise InputError(
            f"{path}: the perplexity of example {wrong[0]} is {perplexity_E[wrong[0]]}; "
            "a perplexity is finite and at least 1"
        )
    return perplexity_E


def _step(checkpoint: Path) -> int:
    try:
        return int(checkpoint.name.removeprefix("checkpoint-"))
    except ValueError:
        raise InputError(f"{checkpoint}: a checkpoint's folder is named checkpoint-<step>") from None


def _tested(checkpoint: Path) -> bool:
    return any(checkpoint.glob("test_answer_types*"))


def _answers(checkpoint: Path, split: str) -> Floats:
    path = _preferred(checkpoint, split)
    answers_ES = _load(path, dimensions=2)
    wrong = np.argwhere(~np.isin(answers_ES, np.arange(_NO_ANSWER + 1)))
    if wrong.size:
        e, s = wrong[0]
        raise InputError(
            f"{path}: answer {s} to example {e} is {answers_ES[e, s]:g}; it is 0 (right), 1 (wrong) or 2 (no answer)"
        )
    return answers_ES


def _preferred(checkpoint: Path, split: str) -> Path:
    """5 answers at temperature 0.8, as the paper has it; else 50; else those without a temperature; else 10."""
    ranked = []
    for path in sorted(checkpoint.glob(f"{split}_answer_types*.npy")):
        found = _SAMPLED.search(path.name)
        if found is None:
            continue
        samples, temperature = found["samples"], found["temperature"]
        if temperature == "0.8" and samples in ("5", "50"):
            place = 0 if samples == "5" else 1
        elif samples == "10" and temperature in (None, "0.8"):
            place = 3
        elif temperature is None:
            place = 2
        else:
            continue
        ranked.append((place, samples != "5", path))
    if not ranked:
        raise InputError(
            f"{checkpoint}: no {split}_answer_types….npy with 5, 50 or 10 samples, at temperature 0.8 or none"
        )
    return min(ranked)[-1]


def _load(path: Path, *, dimensions: int) -> Floats:
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path} is no whole .npy file: {error}") from error
    if array.ndim != dimensions:
        raise InputError(f"{path} has {array.ndim} dimensions instead of {dimensions}")
    if array.dtype.kind not in "iuf":
        raise InputError(f"{path} holds {array.dtype} instead of numbers")
    if array.size == 0:
        raise InputError(f"{path} is empty: its shape is {array.shape}")
    numbers: Floats = array.astype(np.float64)
    return numbers
