"""Every request and response body, shared by service, worker and client.

Times are UTC, durations seconds, thresholds plain perplexity, accuracies shares in [0, 1].
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(min_length=1, max_length=200)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Item = TypeVar("Item")


class Body(BaseModel):
    """What clients send. An unknown field is an error: a misspelled one must not silently leave a default."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="after")
    def _storable(self) -> Self:
        for name, value in self:
            if isinstance(value, str) and "\0" in value:
                raise ValueError(f"{name} holds a NUL character, which PostgreSQL cannot store")
        return self


class Reply(BaseModel):
    """What the service answers. Unknown fields are ignored: a newer service may add some."""

    model_config = ConfigDict(extra="ignore")


class GraderChoice(Body):
    """A grader by name, with its options."""

    name: Name = "gsm8k"
    options: dict[str, Any] = Field(default_factory=dict)
    answer_seconds: float = Field(5.0, gt=0.0, le=300.0, description="Time limit for grading one answer.")


class Page(Reply, Generic[Item]):
    """Part of a list, and where it goes on."""

    items: list[Item]
    next_cursor: str | None


class Problem(Reply):
    """RFC 9457, application/problem+json."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str | None = None
