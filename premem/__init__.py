"""premem finds the training examples that a model could not solve before it memorized them.

What is named here is public. Each name is imported when it is first asked for, so that `import premem` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from premem.client.client import AsyncClient, Client
    from premem.curation.policies import rank
    from premem.errors import (
        BadLine,
        Conflict,
        EmptyHistory,
        GraderError,
        InputError,
        NotFound,
        PrememError,
        RowsError,
        ServiceError,
        Unreachable,
    )
    from premem.method.memorization import is_memorized, pre_memorization_accuracies, pre_memorization_accuracy
    from premem.records import Answer, Example, Grade, Observation, Verdict
    from premem.wire.bodies import GraderChoice
    from premem.wire.calibrations import CalibrationReply
    from premem.wire.curation import AcquireRequest, Acquisition, Choice, Overlap, Selection
    from premem.wire.datasets import Columns, Dataset
    from premem.wire.estimates import Estimate
    from premem.wire.examples import ExampleDetail, ExamplePage, ExampleQuery, ScoredExample
    from premem.wire.jobs import Checkpoint, Job, JobRequest, Perturbation, Sampling, Template
    from premem.wire.reports import JobReport

__all__ = [
    "AcquireRequest",
    "Acquisition",
    "Answer",
    "AsyncClient",
    "BadLine",
    "CalibrationReply",
    "Checkpoint",
    "Choice",
    "Client",
    "Columns",
    "Conflict",
    "Dataset",
    "EmptyHistory",
    "Estimate",
    "Example",
    "ExampleDetail",
    "ExamplePage",
    "ExampleQuery",
    "Grade",
    "GraderChoice",
    "GraderError",
    "InputError",
    "Job",
    "JobReport",
    "JobRequest",
    "NotFound",
    "Observation",
    "Overlap",
    "Perturbation",
    "PrememError",
    "RowsError",
    "Sampling",
    "ScoredExample",
    "Selection",
    "ServiceError",
    "Template",
    "Unreachable",
    "Verdict",
    "is_memorized",
    "pre_memorization_accuracies",
    "pre_memorization_accuracy",
    "rank",
]

_HOMES = {
    "premem.client.client": ("AsyncClient", "Client"),
    "premem.curation.policies": ("rank",),
    "premem.errors": (
        "BadLine",
        "Conflict",
        "EmptyHistory",
        "GraderError",
        "InputError",
        "NotFound",
        "PrememError",
        "RowsError",
        "ServiceError",
        "Unreachable",
    ),
    "premem.method.memorization": ("is_memorized", "pre_memorization_accuracies", "pre_memorization_accuracy"),
    "premem.records": ("Answer", "Example", "Grade", "Observation", "Verdict"),
    "premem.wire.bodies": ("GraderChoice",),
    "premem.wire.calibrations": ("CalibrationReply",),
    "premem.wire.curation": ("AcquireRequest", "Acquisition", "Choice", "Overlap", "Selection"),
    "premem.wire.datasets": ("Columns", "Dataset"),
    "premem.wire.estimates": ("Estimate",),
    "premem.wire.examples": ("ExampleDetail", "ExamplePage", "ExampleQuery", "ScoredExample"),
    "premem.wire.jobs": ("Checkpoint", "Job", "JobRequest", "Perturbation", "Sampling", "Template"),
    "premem.wire.reports": ("JobReport",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'premem' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
