"""Accuracy under perturbed prompts, at the last checkpoint of a job.

Shapes: V variants, the unperturbed baseline first, E training examples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sqlalchemy import Connection, select

from premem.method.robustness import Drop, drops
from premem.wire.examples import IntervalReply
from premem.wire.jobs import BASELINE
from premem.wire.reports import DropReply, RobustnessReply
from premem_service.scores.observations import Floats, accuracies
from premem_service.storage.rows import JobRow, PerturbedRow, all_of
from premem_service.storage.store import Store
from premem_service.storage.tables import tasks


def variants(job: JobRow) -> list[str]:
    """Names, the baseline first; none where the job names no perturbation."""
    named = [perturbation.name for perturbation in job.request.perturbations]
    return [BASELINE, *named] if named else []


def perturbed_results(connection: Connection, job: str) -> list[PerturbedRow]:
    """The tasks that were answered."""
    done = (
        select(tasks.c.variant, tasks.c.start, tasks.c.stop, tasks.c.artifact)
        .where(tasks.c.job == job, tasks.c.kind == "perturbed", tasks.c.state == "completed")
        .order_by(tasks.c.variant, tasks.c.start)
    )
    return all_of(PerturbedRow, connection, done)


def read_perturbed(
    store: Store,
    results: list[PerturbedRow],
    *,
    variants: int,
    examples: int,
    samples: int,
    check: Callable[[], None],
) -> Floats:
    """accuracy_VE; NaN where there is no answer."""
    accuracy_VE = np.full((variants, examples), np.nan)
    for task in results:
        check()
        accuracy_VE[task.variant, task.start : task.stop] = accuracies(store, task.artifact, samples)
    return accuracy_VE


def robustness(names: list[str], score_E: Floats, accuracy_VE: Floats) -> tuple[list[RobustnessReply], list[str]]:
    """What each perturbation costs, and warnings where not all examples were answered. `names`: of the variants."""
    found, warnings = [], []
    scored_E = ~np.isnan(score_E)
    for name, accuracy_E in zip(names, accuracy_VE, strict=True):
        if missing := int((np.isnan(accuracy_E) & scored_E).sum()):
            warnings.append(f"{missing:,} of {scored_E.sum():,} examples were not answered for the perturbation {name}")
        if name != BASELINE:
            (overall,) = drops(score_E, accuracy_VE[0], accuracy_E, bands=(0.0, 1.0))
            found.append(
                RobustnessReply(
                    perturbation=name,
                    overall=_reply(overall),
                    bands=[_reply(drop) for drop in drops(score_E, accuracy_VE[0], accuracy_E)],
                )
            )
    return found, warnings


def _reply(drop: Drop) -> DropReply:
    interval = drop.interval and IntervalReply(low=drop.interval[0], high=drop.interval[1])
    return DropReply(
        low=drop.low,
        high=drop.high,
        examples=drop.examples,
        baseline=drop.baseline,
        drop=drop.drop,
        interval=interval or None,
    )
