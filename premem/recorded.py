"""Runs that others recorded: the folders that the authors of the metric published with their paper.

A run is a folder of `checkpoint-<step>` folders, each with `train_answer_types…npy` and `test_answer_types…npy`
(examples × samples; 0 right, 1 wrong, 2 no answer) and `train_perplexities.npy` (one per example).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from premem.errors import InputError

Floats = NDArray[np.float64]

# Several files may lie side by side. Five samples at temperature 0.8 are what the paper uses.
_PREFERENCE = ("5_seed2_temp0.8", "50_seed2_temp0.8", "5_seed2", "5", "10_seed2_temp0.8", "10_seed2", "10")


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """One finetuning run: C checkpoints in the order of their steps, E examples that were trained on."""

    name: str
    steps: tuple[int, ...]
    accuracy_CE: Floats
    perplexity_CE: Floats
    test_accuracy_C: Floats


def read_runs(folder: Path) -> list[RecordedRun]:
    """Every run in the folder, by name. Raises InputError, naming the file, where one cannot be used."""
    runs = [read_run(path) for path in sorted(folder.iterdir()) if any(path.glob("checkpoint-*"))]
    if not runs:
        raise InputError(f"{folder} holds no run: a run is a folder of checkpoint-<step> folders")
    return runs


def read_run(folder: Path) -> RecordedRun:
    """One run. A run on a part of the training set (no `full` in its name) is cut to `subsample_idxs.npy`."""
    checkpoints = sorted(folder.glob("checkpoint-*"), key=_step)
    trained = slice(None) if "full" in folder.name else _load(folder / "subsample_idxs.npy", dimensions=1)
    accuracies, perplexities, test_accuracies = [], [], []
    for checkpoint in checkpoints:
        accuracy_E = (_answers(checkpoint, "train") == 0).mean(axis=1)
        perplexity_E = _load(checkpoint / "train_perplexities.npy", dimensions=1).astype(np.float64)
        if len(accuracy_E) != len(perplexity_E):
            raise InputError(
                f"{checkpoint}: answers to {len(accuracy_E)} examples, perplexities of {len(perplexity_E)}"
            )
        accuracies.append(accuracy_E[trained])
        perplexities.append(perplexity_E[trained])
        test_accuracies.append((_answers(checkpoint, "test") == 0).mean())
    if len({len(accuracy) for accuracy in accuracies}) > 1:
        raise InputError(f"{folder}: its checkpoints answer different numbers of examples")
    return RecordedRun(
        name=folder.name,
        steps=tuple(map(_step, checkpoints)),
        accuracy_CE=np.stack(accuracies),
        perplexity_CE=np.stack(perplexities),
        test_accuracy_C=np.array(test_accuracies),
    )


def _step(checkpoint: Path) -> int:
    try:
        return int(checkpoint.name.removeprefix("checkpoint-"))
    except ValueError:
        raise InputError(f"{checkpoint}: a checkpoint's folder is named checkpoint-<step>") from None


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
