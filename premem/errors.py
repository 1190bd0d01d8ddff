"""The errors that premem raises.

`except` with one of them also catches those on its branches:

    PrememError
    ├── InputError            an input cannot be used; the message says where and what to do
    │   ├── RowsError         rows of a data set cannot be used; it lists the bad lines
    │   ├── GraderError       there is no such grader, or it does not take these options
    │   ├── CheckpointError   a checkpoint cannot be loaded, or must not be
    │   └── MissingExtra      a package that only this needs is not installed; also an ImportError
    ├── EmptyHistory          no checkpoint has been scored yet, so there is no accuracy
    ├── EngineError           the engine failed, and the checkpoint is not the reason
    ├── Interrupted           the work was stopped: it was cancelled, or the worker is ending
    └── ServiceError          the service responded with a problem (RFC 9457)
        ├── NotFound          404
        ├── Conflict          409
        │   └── StaleAttempt  another attempt has the lease of the task now
        └── Unreachable       the service did not respond
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class PrememError(Exception):
    """Base class of all errors of premem."""


class InputError(PrememError):
    """An input cannot be used. The message says where the fault is and what to do."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A row of an upload that cannot be used."""

    line: int
    """From 1, in the file as it was sent; the rows of a Parquet file count as lines."""
    field: str | None
    message: str

    def __str__(self) -> str:
        return f"line {self.line}{f', {self.field}' if self.field else ''}: {self.message}"


class RowsError(InputError):
    """Rows of an upload cannot be used; nothing of the upload was stored."""

    def __init__(self, message: str, lines: Sequence[BadLine] = (), *, total: int | None = None) -> None:
        super().__init__(message)
        self.lines = list(lines)
        self.total = len(self.lines) if total is None else total


class GraderError(InputError):
    """There is no grader of this name, or it does not take these options."""


class CheckpointError(InputError):
    """A checkpoint cannot be loaded, or must not be."""


class MissingExtra(InputError, ImportError):
    """A package that only this needs is not installed. The message names the extra of premem that brings it."""


class EmptyHistory(PrememError):
    """No checkpoint has been scored yet."""


class EngineError(PrememError):
    """The engine failed, and the checkpoint is not the reason."""


class Interrupted(PrememError):
    """The work was stopped: it was cancelled, or the worker is ending."""


class ServiceError(PrememError):
    """The service responded with a problem (RFC 9457)."""

    def __init__(self, message: str, *, status: int | None = None, problem: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem or {}


class NotFound(ServiceError):
    """The service has nothing of this name."""


class Conflict(ServiceError):
    """The request does not fit the present state, such as a report of a job that has not ended."""


class StaleAttempt(Conflict):
    """Another attempt has the lease of the task now; the result of this one is not used."""


class Unreachable(ServiceError):
    """The service did not respond."""
