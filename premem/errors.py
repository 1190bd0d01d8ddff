"""The errors that premem raises, each in the words of its domain.

PrememError
├── InputError            what the user gave cannot be used; says where and what to do
│   ├── RowsError         rows of a data set, each bad line by its number
│   ├── GraderError       no grader of this name, or options it does not take
│   ├── CheckpointError   a checkpoint that cannot be loaded, or must not be
│   └── MissingExtra      a package that only this needs is not installed; an ImportError, too
├── EmptyHistory          no checkpoint has been scored yet: there is no accuracy to speak of
├── EngineError           the engine failed for a reason that lies in no checkpoint
├── Interrupted           the work was stopped from outside: cancelled, or the worker is ending
└── ServiceError          the service answered with a problem (RFC 9457)
    ├── NotFound          404
    ├── Conflict          409
    │   └── StaleAttempt  the lease of a task has passed to another attempt
    └── Unreachable       nobody answered
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class PrememError(Exception):
    """Root of everything that premem raises on purpose."""


class InputError(PrememError):
    """What the user gave cannot be used. The message says where and what to do."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """One row that cannot be taken."""

    line: int
    """Counted from 1, in the file as it was sent (a Parquet file's rows count as lines)."""
    field: str | None
    message: str

    def __str__(self) -> str:
        return f"line {self.line}{f', {self.field}' if self.field else ''}: {self.message}"


class RowsError(InputError):
    """Rows that cannot be taken; nothing of their data set was kept."""

    def __init__(self, message: str, lines: Sequence[BadLine] = (), *, total: int | None = None) -> None:
        super().__init__(message)
        self.lines = list(lines)
        self.total = len(self.lines) if total is None else total


class GraderError(InputError):
    """No grader of this name, or options that it does not take."""


class CheckpointError(InputError):
    """A checkpoint that cannot be loaded, or must not be."""


class MissingExtra(InputError, ImportError):
    """A package that only this needs is not installed. The message names the extra of premem that brings it."""


class EmptyHistory(PrememError):
    """No checkpoint has been scored yet."""


class EngineError(PrememError):
    """The engine failed for a reason that lies in no checkpoint."""


class Interrupted(PrememError):
    """The work was stopped from outside."""


class ServiceError(PrememError):
    """The service answered with a problem (RFC 9457)."""

    def __init__(self, message: str, *, status: int | None = None, problem: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem or {}


class NotFound(ServiceError):
    """There is nothing under this name."""


class Conflict(ServiceError):
    """The request does not fit the state that things are in."""


class StaleAttempt(Conflict):
    """The lease of a task has passed to another attempt; whatever this one made is not wanted."""


class Unreachable(ServiceError):
    """Nobody answered."""
