"""premem finds the training examples that a model could not solve before it memorized them.

What is named here is public. Each name is imported when it is first asked for, so that `import premem` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from premem.client.client import AsyncClient, Client
    from premem.curation.policies import rank
    from premem.errors import PrememError
    from premem.method.memorization import is_memorized, pre_memorization_accuracies, pre_memorization_accuracy
    from premem.records import Answer, Example, Grade, Observation, Verdict
    from premem.wire.bodies import GraderChoice
    from premem.wire.datasets import Columns
    from premem.wire.jobs import Checkpoint, JobRequest, Sampling, Template

__all__ = [
    "Answer",
    "AsyncClient",
    "Checkpoint",
    "Client",
    "Columns",
    "Example",
    "Grade",
    "GraderChoice",
    "JobRequest",
    "Observation",
    "PrememError",
    "Sampling",
    "Template",
    "Verdict",
    "is_memorized",
    "pre_memorization_accuracies",
    "pre_memorization_accuracy",
    "rank",
]

_HOMES = {
    "premem.client.client": ("AsyncClient", "Client"),
    "premem.curation.policies": ("rank",),
    "premem.errors": ("PrememError",),
    "premem.method.memorization": ("is_memorized", "pre_memorization_accuracies", "pre_memorization_accuracy"),
    "premem.records": ("Answer", "Example", "Grade", "Observation", "Verdict"),
    "premem.wire.bodies": ("GraderChoice",),
    "premem.wire.datasets": ("Columns",),
    "premem.wire.jobs": ("Checkpoint", "JobRequest", "Sampling", "Template"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'premem' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
