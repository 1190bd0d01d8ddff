"""How much two policies choose alike of one job."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from numpy.typing import NDArray

from premem.wire.curation import Overlap, Part
from premem_service.curation.selections import (
    Above,
    Below,
    Budget,
    Chosen,
    How,
    Policy,
    PolicyGiven,
    Seed,
    choose_each,
    lineage,
    listed,
)
from premem_service.http.dependencies import DatabaseGiven
from premem_service.http.problems import described
from premem_service.queue.states import completed
from premem_service.scores.score_files import ScoreFiles
from premem_service.scores.traits import Ints
from premem_service.storage.rows import JobRow

router = APIRouter(prefix="/v1/jobs", tags=["examples"])


def _other(
    other_policy: How = "lowest",
    other_below: Below = 0.5,
    other_above: Above = 0.0,
    other_budget: Budget = None,
    other_seed: Seed = 0,
) -> Policy:
    return Policy(other_policy, other_below, other_above, other_budget, other_seed)


@router.get("/{job}/overlap", responses=described(404, 409, 500))
def get_overlap(
    job: str,
    request: Request,
    database: DatabaseGiven,
    one: PolicyGiven,
    other: Annotated[Policy, Depends(_other)],
    limit: Annotated[int, Query(ge=0, le=1000, description="At most so many of each part are listed.")] = 10,
) -> Overlap:
    """How many examples two policies both choose, and how many only the one or the other, of however many there are.

    What is named `other_…` is the second policy's. Both choose over the same scores, and no example's text is read.
    """
    with database.connect() as connection:
        row = completed(connection, job)
    files: ScoreFiles = request.app.state.score_files
    first, second = choose_each(database, files, row, one, other)
    shared = _within(first, second)
    return Overlap(
        lineage=lineage(row, one),
        other=lineage(row, other),
        both=_part(files, row, first, first.selection.positions[shared], limit),
        only_one=_part(files, row, first, first.selection.positions[~shared], limit),
        only_other=_part(files, row, second, second.selection.positions[~_within(second, first)], limit),
    )


def _within(chosen: Chosen, other: Chosen) -> NDArray[np.bool_]:
    """Of each chosen example, best first, whether the other policy chose it, too. Both count the same E examples."""
    other_E = np.zeros(len(other.row_E), dtype=bool)
    other_E[other.selection.positions] = True
    return other_E[chosen.selection.positions]


def _part(files: ScoreFiles, job: JobRow, chosen: Chosen, positions: Ints, limit: int) -> Part:
    return Part(total=len(positions), first=listed(files, job, chosen, positions[:limit]))
