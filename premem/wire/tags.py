"""Bodies about tags, which people give to rows of a data set."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from premem.wire.bodies import Body, Reply

EXCLUDED = "excluded"
"""The reference is wrong, or the example must not be trained on for another reason: no policy chooses it."""
MARKED = "marked"
"""To be looked at again."""
TAG_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,49}$"
"""In lower case only, so that no `Excluded` is taken for `excluded` and then not respected."""
MOST_ROWS = 10_000
"""Rows in one request that gives a tag."""
MOST_UNTAGGED = 1_000
"""Rows in one request that takes a tag off: they are in its URL."""

Row = Annotated[int, Field(ge=0, lt=2**53)]


class TaggedRows(Body):
    """The rows that get a tag."""

    rows: list[Row] = Field(
        min_length=1, max_length=MOST_ROWS, description="Positions in the data set, from 0; the same one twice is one."
    )


class TagCount(Reply):
    """A tag, and how many rows of the data set have it."""

    tag: str
    rows: int


class TagCounts(Reply):
    items: list[TagCount] = Field(description="Every tag of the data set, by name.")
