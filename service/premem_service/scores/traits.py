"""What chosen examples have in common."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from premem.curation.traits import traits
from premem.records import Example
from premem.wire.curation import TraitReply
from premem_service.datasets.reading import read_rows_at
from premem_service.storage.db import Database
from premem_service.storage.store import Store

Ints = NDArray[np.int64]
MOST_COMPARED = 10_000
"""Of the chosen examples, and of the rest: their texts are read to say what they have in common."""


def examples_at(database: Database, store: Store, dataset: str, rows: Ints | list[int]) -> list[Example]:
    """Raises ArtifactLost, StoreError."""
    # Not the rows as uploaded: they are longer than all these.
    columns = ["id", "question", "trace", "final_answer"]
    read = read_rows_at(database, store, dataset, np.asarray(rows).tolist(), columns=columns)
    return [Example(*fields) for fields in read.iter_rows()]


def in_common(
    database: Database, store: Store, dataset: str, row_E: Ints, chosen_E: NDArray[np.bool_], *, seed: int
) -> tuple[list[TraitReply], list[str]]:
    """What the chosen examples have in common against the rest, and notes where that rests on a part of them."""
    random = np.random.default_rng([seed, 2])
    drawn, notes = [], []
    for positions, name in ((np.flatnonzero(chosen_E), "chosen examples"), (np.flatnonzero(~chosen_E), "rest")):
        if len(positions) > MOST_COMPARED:
            notes.append(f"traits are of {MOST_COMPARED:,} of the {len(positions):,} {name}, drawn at random")
            positions = np.sort(random.choice(positions, MOST_COMPARED, replace=False))
        drawn.append(positions)
    if not all(map(len, drawn)):
        return [], []
    compared = np.concatenate(drawn)
    examples = examples_at(database, store, dataset, row_E[compared])
    return [TraitReply(**asdict(trait)) for trait in traits(examples, chosen_E[compared])], notes
