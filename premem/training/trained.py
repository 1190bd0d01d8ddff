"""Some of the rows that a run trains on, as its own collator makes them."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from premem.errors import InputError

MOST_ROWS = 2000
MOST_STREAMED_ROWS = 64
"""Of a data set that is read as it comes."""
MOST_SECONDS = 2.0
MASKED = -100
"""The label of a token that is not trained on."""


@dataclass(frozen=True, slots=True)
class TrainedRow:
    """What one row of the Trainer's data set trains on."""

    tokens: tuple[int, ...]
    labels: tuple[int, ...]
    """As many; MASKED where nothing is learned."""
    starts: frozenset[int] = frozenset({0})
    """Where the texts begin that were packed into it, as far as the collator says."""


def trained_rows(loader: Any, *, most: int = MOST_ROWS, seconds: float = MOST_SECONDS) -> list[TrainedRow]:
    """The first rows of a training DataLoader, read beside it: no batch of it is taken, and no random number drawn.

    At most `most` of them, and no more than can be read in `seconds`. Raises InputError, with the reason, where they
    cannot be read in that way.
    """
    dataset = getattr(loader, "dataset", None)
    collate = getattr(loader, "collate_fn", None)
    if dataset is None or collate is None:
        raise InputError("the Trainer names no data set and no collator")
    deadline = time.monotonic() + seconds
    found = []
    try:
        with _random_states_kept(collate, getattr(collate, "data_collator", None), dataset):
            for row in islice(_rows(dataset), most):
                found.append(_trained(collate([copy.copy(row)])))
                if time.monotonic() > deadline:
                    break
    except InputError:
        raise
    except Exception as error:  # the run's own code reads them; the run will say what is wrong with it
        raise InputError(f"a row of the training data cannot be read: {type(error).__name__}: {error}") from error
    return found


def _rows(dataset: Any) -> Iterable[Any]:
    from torch.utils.data import IterableDataset

    if not isinstance(dataset, IterableDataset):
        return (dataset[place] for place in range(len(dataset)))
    while not type(dataset).__module__.startswith("datasets.") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset  # accelerate's shard of it
    if not type(dataset).__module__.startswith("datasets."):
        raise InputError("the training data is a stream, of which reading would take rows away from the run")
    return islice(iter(dataset), MOST_STREAMED_ROWS)


def _trained(batch: Any) -> TrainedRow:
    """Of a batch with one row."""
    if "input_ids" not in batch or "labels" not in batch:
        raise InputError("the collator gives no input_ids and labels")
    tokens, labels = _numbers(batch["input_ids"]), _numbers(batch["labels"])
    positions = _numbers(batch["position_ids"]) if "position_ids" in batch else range(len(tokens))
    kept = _numbers(batch["attention_mask"]) if "attention_mask" in batch else [1] * len(tokens)
    if not len(tokens) == len(labels) == len(positions) == len(kept):
        raise InputError("the collator gives input_ids and labels of different lengths")
    places = [place for place, keep in enumerate(kept) if keep]
    return TrainedRow(
        tokens=tuple(tokens[place] for place in places),
        labels=tuple(labels[place] for place in places),
        starts=frozenset(number for number, place in enumerate(places) if positions[place] == 0) | {0},
    )


def _numbers(values: Any) -> list[int]:
    flat = values[0] if len(values) == 1 else values
    return [int(one) for one in (flat.tolist() if hasattr(flat, "tolist") else flat)]


@contextmanager
def _random_states_kept(*owners: Any) -> Iterator[None]:
    """The run draws afterwards what it would have drawn: from the libraries' generators, and from those of `owners`."""
    import torch

    own = [value for owner in owners for value in getattr(owner, "__dict__", {}).values()]
    ours = [value for value in own if isinstance(value, torch.Generator)]
    numpys = [value for value in own if isinstance(value, np.random.Generator)]
    pythons = [value for value in own if isinstance(value, random.Random)]
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    held = [one.get_state() for one in ours]
    numpys_held = [copy.deepcopy(one.bit_generator.state) for one in numpys]
    pythons_held = [one.getstate() for one in pythons]
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
        for generator, state in zip(ours, held, strict=True):
            generator.set_state(state)
        for numbers, found in zip(numpys, numpys_held, strict=True):
            numbers.bit_generator.state = found
        for python, drawn in zip(pythons, pythons_held, strict=True):
            python.setstate(drawn)
