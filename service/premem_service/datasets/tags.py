"""Tags: what people say of examples, kept by data set and row, so that every job over the same rows sees them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Query
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from premem.errors import Conflict, NotFound
from premem.wire.bodies import Page
from premem.wire.tags import EXCLUDED, MOST_UNTAGGED, TAG_PATTERN, Row, TagCount, TagCounts, TaggedRows
from premem_service.http import cursors
from premem_service.http.dependencies import Cursor, DatabaseGiven, Limit
from premem_service.http.problems import FieldError, described
from premem_service.storage.tables import datasets, tags

MOST_TAGS = 100
"""Names in one data set: tags are few words for many rows, and no place for notes."""

router = APIRouter(prefix="/v1/datasets/{dataset}/tags", tags=["tags"])

TagGiven = Annotated[
    str,
    Path(
        pattern=TAG_PATTERN,
        description=f"Lower-case letters, digits, `.`, `_` and `-`, at most 50. Examples tagged `{EXCLUDED}` are left "
        "out of every choice.",
    ),
]
RowsGiven = Annotated[list[Row], Query(alias="row", min_length=1, max_length=MOST_UNTAGGED)]


@router.get("", responses=described(404))
def list_tags(dataset: str, database: DatabaseGiven) -> TagCounts:
    """The tags of a data set, each with how many rows have it."""
    with database.connect() as connection:
        _rows(connection, dataset)
        counted = select(tags.c.tag, func.count()).where(tags.c.dataset == dataset).group_by(tags.c.tag)
        found = connection.execute(counted.order_by(tags.c.tag)).all()
    return TagCounts(items=[TagCount(tag=tag, rows=rows) for tag, rows in found])


@router.get("/{tag}/rows", responses=described(404))
def list_tagged_rows(
    dataset: str, tag: TagGiven, database: DatabaseGiven, cursor: Cursor = None, limit: Limit = 1000
) -> Page[int]:
    """The rows that have a tag, in the order of the data set."""
    of = f"tags {dataset} {tag}"
    first = cursors.decode(cursor, of=of) or 0
    wanted = select(tags.c.row).where(tags.c.dataset == dataset, tags.c.tag == tag, tags.c.row >= first)
    with database.connect() as connection:
        _rows(connection, dataset)
        rows = connection.scalars(wanted.order_by(tags.c.row).limit(limit + 1)).all()
    more = len(rows) > limit
    return Page[int](items=list(rows[:limit]), next_cursor=cursors.encode(rows[limit], of=of) if more else None)


@router.put("/{tag}/rows", responses=described(404, 409))
def tag_rows(dataset: str, tag: TagGiven, body: TaggedRows, database: DatabaseGiven) -> TagCount:
    """Give rows a tag; those that have it keep it. Answers with how many have it now."""
    with database.begin() as connection:
        _check(body.rows, dataset, _rows(connection, dataset, lock=True))
        used = set(connection.scalars(select(tags.c.tag).where(tags.c.dataset == dataset).distinct()))
        if len(used | {tag}) > MOST_TAGS:
            raise Conflict(f"the data set {dataset} has {MOST_TAGS} tags already: use one of them, or delete one first")
        new = [{"dataset": dataset, "row": row, "tag": tag} for row in set(body.rows)]
        if connection.dialect.name == "sqlite":
            connection.execute(sqlite.insert(tags).on_conflict_do_nothing(), new)
        else:
            connection.execute(postgresql.insert(tags).on_conflict_do_nothing(), new)
        return _count(connection, dataset, tag)


@router.delete("/{tag}/rows", responses=described(404))
def untag_rows(dataset: str, tag: TagGiven, rows: RowsGiven, database: DatabaseGiven) -> TagCount:
    """Take a tag off some rows; from those that lack it nothing is taken. Answers with how many still have it."""
    with database.begin() as connection:
        _check(rows, dataset, _rows(connection, dataset))
        connection.execute(delete(tags).where(*_of(dataset, tag), tags.c.row.in_(rows)))
        return _count(connection, dataset, tag)


@router.delete("/{tag}", status_code=204, responses=described(404))
def delete_tag(dataset: str, tag: TagGiven, database: DatabaseGiven) -> None:
    """Take a tag off every row of a data set."""
    with database.begin() as connection:
        _rows(connection, dataset)
        connection.execute(delete(tags).where(*_of(dataset, tag)))


# For other routes


@dataclass(frozen=True, slots=True)
class Tags:
    """All tags of a data set, T pairs of row and tag in the order of the rows."""

    row_T: NDArray[np.int64]
    tags: list[str]

    def of(self, rows: NDArray[np.int64]) -> list[list[str]]:
        """The tags of each row, by name."""
        starts, stops = (np.searchsorted(self.row_T, rows, side=side).tolist() for side in ("left", "right"))
        return [self.tags[start:stop] for start, stop in zip(starts, stops, strict=True)]


def all_tags(connection: Connection, dataset: str) -> Tags:
    every = select(tags.c.row, tags.c.tag).where(tags.c.dataset == dataset).order_by(tags.c.row, tags.c.tag)
    found = connection.execute(every).all()
    return Tags(np.array([row for row, _ in found], np.int64), [tag for _, tag in found])


def tags_at(connection: Connection, dataset: str, rows: Iterable[int]) -> dict[int, list[str]]:
    """The tags of some rows, no more than a page of them; rows without a tag are not in it."""
    some = select(tags.c.row, tags.c.tag).where(tags.c.dataset == dataset, tags.c.row.in_(list(rows)))
    found = connection.execute(some.order_by(tags.c.row, tags.c.tag)).all()
    return {row: [tag for _, tag in pairs] for row, pairs in groupby(found, key=lambda pair: pair[0])}


def rows_with(connection: Connection, dataset: str, tag: str) -> NDArray[np.int64]:
    """All rows that have a tag, in the order of the data set."""
    found = connection.scalars(select(tags.c.row).where(*_of(dataset, tag)).order_by(tags.c.row)).all()
    return np.array(found, np.int64)


def _of(dataset: str, tag: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return tags.c.dataset == dataset, tags.c.tag == tag


def _rows(connection: Connection, dataset: str, *, lock: bool = False) -> int:
    """Of the data set; with `lock` nobody deletes it, or tags it, before the transaction ends. Raises NotFound."""
    found = select(datasets.c.rows).where(datasets.c.id == dataset)
    rows: int | None = connection.scalar(found.with_for_update(key_share=True) if lock else found)
    if rows is None:
        raise NotFound(f"there is no data set {dataset!r}")
    return rows


def _check(wanted: list[int], dataset: str, rows: int) -> None:
    if (last := max(wanted)) >= rows:
        raise FieldError("rows", f"there is no row {last} in the data set {dataset}: it has {rows:,}, counted from 0")


def _count(connection: Connection, dataset: str, tag: str) -> TagCount:
    rows = connection.scalar(select(func.count()).select_from(tags).where(*_of(dataset, tag))) or 0
    return TagCount(tag=tag, rows=rows)
