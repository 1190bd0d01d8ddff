"""A run of which every score is known."""

from __future__ import annotations

import random

from premem.records import Observation

MEMORIZED_BELOW = 1.2


CHECKPOINTS = ["checkpoint-1", "checkpoint-2", "checkpoint-3"]


ROWS = 60


def history(row: int) -> list[Observation]:
    """What the three checkpoints do with a row: with ties, memorized and forgotten again."""
    chance = random.Random(row)
    return [
        Observation(correct=chance.randint(0, 2), sampled=2, perplexity=chance.choice([1.05, 1.2, 1.3, 2.0]))
        for _ in CHECKPOINTS
    ]


def observe(checkpoint: str, row: int) -> Observation:
    return history(row)[CHECKPOINTS.index(checkpoint)]


def all_examples(client, job: str, *, limit: int) -> list[dict]:
    items, cursor = [], None
    while True:
        page = client.get(
            f"/v1/jobs/{job}/examples", params={"limit": limit, **({"cursor": cursor} if cursor else {})}
        ).json()
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return items
