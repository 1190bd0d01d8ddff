"""Bodies about data sets."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from premem.wire.bodies import Body, GraderChoice, Reply


class Columns(Body):
    """Which column of the uploaded rows holds what. What is absent is looked for under the usual names."""

    question: str | None = None
    trace: str | None = None
    final_answer: str | None = None
    id: str | None = None
    messages: str | None = None


class BadLineReply(Reply):
    """One row that cannot be taken, or whose reference does not grade as right."""

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
    grader_reason: str | None = Field(None, description="Of an upload that named no grader: why this one was chosen.")
    ungradable: int = Field(description="Rows whose own reference does not grade as right.")
    ungradable_lines: list[BadLineReply] = Field(description="The first 100 of them.")
    chats: int = Field(0, description="Rows with a system message, tools or earlier turns before the answer.")
    repaired: int = Field(0, description="Backslashes of LaTeX that were put back.")
    created_at: datetime
