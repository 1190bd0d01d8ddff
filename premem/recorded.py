"""Runs that others recorded: the folders that the authors of the metric published with their paper.

A run is a folder of `checkpoint-<step>` folders, each with `train_answer_types…npy` and `test_answer_types…npy`
(examples × samples; 0 right, 1 wrong, 2 no answer) and `train_perplexities.npy` (one per example). A checkpoint without
any `test_answer_types…npy` has no test accuracy.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from premem.errors import InputError
from premem.runs import Floats, ScoredRun

# Several files may lie side by side. Five samples at temperature 0.8 are what the paper uses.
_PREFERENCE = ("5_seed2_temp0.8", "50_seed2_temp0.8", "5_seed2", "5", "10_seed2_temp0.8", "10_seed2", "10")
_LEARNING_RATE = re.compile(r"_lr([0-9.]+(?:e-?[0-9]+)?)")


def read_runs(folder: Path) -> list[ScoredRun]:
    """Every run in the folder, by name. Raises InputError, naming the file, where one cannot be used."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: name the one that holds the recorded runs")
    runs = [read_run(path) for path in sorted(folder.iterdir()) if any(path.glob("checkpoint-*"))]
    if not runs:
        raise InputError(f"{folder} holds no run: a run is a folder of checkpoint-<step> folders")
    return runs


def read_run(folder: Path) -> ScoredRun:
    """One run. A run on a part of the training set (no `full` in its name) is cut to `subsample_idxs.npy`."""
    checkpoints = sorted(folder.glob("checkpoint-*"), key=_step)
    train = [_answers(checkpoint, "train") for checkpoint in checkpoints]
    perplexity_CE = np.stack(_alike([_perplexities(checkpoint) for checkpoint in checkpoints], folder))
    accuracy_CE = np.stack(_alike([(answers_ES == 0).mean(axis=1) for answers_ES in train], folder))
    if accuracy_CE.shape != perplexity_CE.shape:
        raise InputError(
            f"{folder}: answers to {accuracy_CE.shape[1]} examples, perplexities of {perplexity_CE.shape[1]}"
        )
    trained_E = np.ones(accuracy_CE.shape[1], dtype=bool)
    if "full" not in folder.name:
        trained_E = _trained(folder / "subsample_idxs.npy", examples=len(trained_E))
    some_untrained = not trained_E.all()
    tests = [_answers(checkpoint, "test") if _tested(checkpoint) else None for checkpoint in checkpoints]
    found = _LEARNING_RATE.search(folder.name)
    return ScoredRun(
        name=folder.name,
        checkpoints=tuple(checkpoint.name for checkpoint in checkpoints),
        accuracy_CE=accuracy_CE[:, trained_E],
        perplexity_CE=perplexity_CE[:, trained_E],
        samples=train[0].shape[1],
        test_accuracy_C=np.array([np.nan if test is None else (test == 0).mean() for test in tests]),
        learning_rate=float(found[1]) if found else None,
        untrained_accuracy_C=accuracy_CE[:, ~trained_E].mean(axis=1) if some_untrained else None,
        untrained_perplexity_CU=perplexity_CE[:, ~trained_E] if some_untrained else None,
        row_E=np.flatnonzero(trained_E) if some_untrained else None,
        test_examples=next((len(test) for test in tests if test is not None), None),
    )


def _alike(rows: list[Floats], folder: Path) -> list[Floats]:
    sizes = sorted({len(row) for row in rows})
    if len(sizes) > 1:
        raise InputError(f"{folder}: its checkpoints hold different numbers of examples, {sizes[0]} and {sizes[-1]}")
    return rows


def _trained(path: Path, *, examples: int) -> NDArray[np.bool_]:
    indices = _load(path, dimensions=1)
    if not np.issubdtype(indices.dtype, np.integer):
        raise InputError(f"{path} holds {indices.dtype} instead of whole numbers")
    indices = indices.astype(np.int64)
    if len(indices) == 0 or indices.min() < 0 or indices.max() >= examples:
        raise InputError(f"{path} must name examples from 0 to {examples - 1}")
    trained_E = np.zeros(examples, dtype=bool)
    trained_E[indices] = True
    return trained_E


def _perplexities(checkpoint: Path) -> Floats:
    path = checkpoint / "train_perplexities.npy"
    perplexity_E = _load(path, dimensions=1).astype(np.float64)
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


def _answers(checkpoint: Path, split: str) -> NDArray[np.int64]:
    for samples in _PREFERENCE:
        path = checkpoint / f"{split}_answer_types{samples}.npy"
        if path.exists():
            return _load(path, dimensions=2).astype(np.int64)
    raise InputError(f"{checkpoint}: no {split}_answer_types….npy with 5, 50 or 10 samples")


def _load(path: Path, *, dimensions: int) -> NDArray[np.generic]:
    try:
        array: NDArray[np.generic] = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path} is no whole .npy file: {error}") from error
    if array.ndim != dimensions:
        raise InputError(f"{path} has {array.ndim} dimensions instead of {dimensions}")
    return array
