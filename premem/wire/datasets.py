"""Data sets on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import Field

if TYPE_CHECKING:
    pass
from premem.wire.bodies import Body, GraderChoice, Reply


class Columns(Body):
    """Which column of the uploaded rows plays which part. Absent ones are guessed from the usual names."""

    question: str | None = None
    trace: str | None = None
    final_answer: str | None = None
    id: str | None = None
    messages: str | None = None


class BadLineReply(Reply):
    line: int
    field: str | None
    message: str


class Dataset(Reply):
    """An uploaded data set. Its id is the hash of its content: the same rows are the same data set."""

    id: str
    name: str
    rows: int
    bytes: int = Field(description="As stored.")
    columns: Columns = Field(description="The mapping that was used.")
    grader: GraderChoice
    ungradable: int = Field(description="Rows whose own reference does not grade as right.")
    ungradable_lines: list[BadLineReply] = Field(description="The first 100 of them.")
    chats: int = Field(0, description="Rows with a system message, tools or earlier turns before the answer.")
    repaired: int = Field(0, description="Backslashes of LaTeX that were put back.")
    created_at: datetime
