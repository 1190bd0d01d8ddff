"""What a policy chooses of a job's scored examples, with a random control of the same size.

Shapes: E scored examples that nobody has excluded, in the order of the data set.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from numpy.typing import NDArray

from premem.curation import policies as curation
from premem.curation.policies import PolicyName
from premem.errors import Conflict
from premem.wire.curation import Group, Lineage, SelectedExample, Selection
from premem.wire.tags import EXCLUDED
from premem_service.datasets.tags import rows_with
from premem_service.http.dependencies import DatabaseGiven, StoreGiven
from premem_service.http.problems import described
from premem_service.queue.progress import threshold_reply
from premem_service.queue.states import completed
from premem_service.scores.score_files import ScoreFiles
from premem_service.scores.traits import Ints, in_common
from premem_service.storage.db import Database
from premem_service.storage.rows import JobRow

Floats = NDArray[np.float64]

MOST_LISTED = 10_000

How = Annotated[
    PolicyName,
    Query(
        description="lowest: score under `below`, lowest first; band: from `above` up to `below`; variance: by "
        "s(1 - s), the least settled first; mean: accuracy over all checkpoints under `below`; random: a draw."
    ),
]
Below = Annotated[float, Query(ge=0.0, le=1.0, description="Exclusive.")]
Above = Annotated[float, Query(ge=0.0, le=1.0, description="Inclusive; for the policy band.")]
Budget = Annotated[int | None, Query(ge=1, lt=2**53, description="At most so many, the best first.")]
Seed = Annotated[int, Query(ge=0, lt=2**63, description="Of the draws: the control, and the policy random.")]

router = APIRouter(prefix="/v1/jobs", tags=["examples"])


@dataclass(frozen=True, slots=True)
class Policy:
    """How to choose, as the query says."""

    policy: How = "lowest"
    below: Below = 0.5
    above: Above = 0.0
    budget: Budget = None
    seed: Seed = 0


PolicyGiven = Annotated[Policy, Depends()]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A choice, and where its examples stand."""

    row_E: Ints
    rank_E: Ints
    score_E: Floats
    selection: curation.Selection
    """Its positions count the E examples."""
    excluded: int
    """Scored examples that are tagged as excluded: neither chosen nor in the control."""

    @property
    def notes(self) -> list[str]:
        """What is to be known about the choice."""
        left_out = f"{self.excluded:,} scored examples are left out: they are tagged {EXCLUDED!r}"
        return [*self.selection.notes, *([left_out] if self.excluded else [])]

    def positions(self, group: Group) -> Ints:
        return self.selection.positions if group == "chosen" else self.selection.control


@router.get("/{job}/selection", responses=described(404, 409, 500))
def get_selection(
    job: str,
    request: Request,
    database: DatabaseGiven,
    store: StoreGiven,
    asked: PolicyGiven,
    limit: Annotated[int, Query(ge=0, le=MOST_LISTED, description="At most so many of each are listed.")] = MOST_LISTED,
) -> Selection:
    """Which examples a policy chooses, how many qualified, and what they have in common against the rest."""
    with database.connect() as connection:
        row = completed(connection, job)
    files: ScoreFiles = request.app.state.score_files
    chosen = choose(database, files, row, asked)
    chosen_E = np.zeros(len(chosen.row_E), dtype=bool)
    chosen_E[chosen.selection.positions] = True
    found, notes = in_common(database, store, row.dataset, chosen.row_E, chosen_E, seed=asked.seed)
    return Selection(
        lineage=lineage(row, asked),
        qualified=chosen.selection.qualified,
        total=len(chosen.selection.positions),
        chosen=listed(files, row, chosen, chosen.positions("chosen")[:limit]),
        control=listed(files, row, chosen, chosen.positions("control")[:limit]),
        excluded=chosen.excluded,
        notes=[*chosen.notes, *notes],
        traits=found,
    )


# For other routes


def choose(database: Database, files: ScoreFiles, job: JobRow, policy: Policy) -> Chosen:
    """Raises InputError for thresholds that do not fit together, Conflict, ArtifactLost, StoreError."""
    return choose_each(database, files, job, policy)[0]


def choose_each(database: Database, files: ScoreFiles, job: JobRow, *policies: Policy) -> list[Chosen]:
    """By several policies, over scores that are read once. Raises what `choose` does."""
    for each in policies:
        _check_settled(job, each)
    with database.connect() as connection:
        excluded_rows = rows_with(connection, job.dataset, EXCLUDED)
    with files.open(job.scores) as scores:
        table = scores.columns("row", "score", "mean_accuracy")
        # `select` takes the mean over checkpoints and the first perplexity of each: that is all it is given.
        first_R = scores.first("perplexity")
    row_R = table["row"].to_numpy()
    rank_E = np.argsort(row_R)
    rank_E = rank_E[~np.isin(row_R[rank_E], excluded_rows)]
    score_E = table["score"].to_numpy()[rank_E]
    mean_E = table["mean_accuracy"].to_numpy(zero_copy_only=False)[rank_E]
    first_E = first_R[rank_E]
    excluded = len(row_R) - len(rank_E)
    return [
        Chosen(row_R[rank_E], rank_E, score_E, _selected(each, score_E, mean_E, first_E), excluded) for each in policies
    ]


def lineage(job: JobRow, policy: Policy) -> Lineage:
    return Lineage(job=job.id, dataset=job.dataset, threshold=threshold_reply(job), **asdict(policy))


def listed(files: ScoreFiles, job: JobRow, chosen: Chosen, positions: Ints) -> list[SelectedExample]:
    """Some of the E examples, no more than MOST_LISTED, in their order."""
    with files.open(job.scores) as scores:
        ranks = chosen.rank_E[positions[:MOST_LISTED]]
        table = scores.at(ranks, columns=["row", "id", "score", "mean_accuracy"])
    return [SelectedExample(**record) for record in table.to_pylist()]


def _check_settled(job: JobRow, policy: Policy) -> None:
    settled = job.request.below
    if settled is not None and (policy.policy not in ("lowest", "random") or policy.below != settled):
        raise Conflict(
            f"of job {job.id} only whether a score is under {settled:g} was settled: ask for the policy 'lowest' with "
            f"below={settled:g}, or score again without below"
        )


def _selected(policy: Policy, score_E: Floats, mean_E: Floats, first_E: Floats) -> curation.Selection:
    return curation.select(
        policy.policy,
        score_E,
        mean_E[None],
        first_E[None],
        below=policy.below,
        above=policy.above,
        budget=policy.budget,
        seed=policy.seed,
    )
