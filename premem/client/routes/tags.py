"""Tags: what people say of the rows of a data set."""

from __future__ import annotations

from collections.abc import Iterable

from premem.client.replies import parse
from premem.client.routes.shared import RouteGroup, path_of
from premem.client.transport import Item, Listing, Steps, endpoint, paginated
from premem.wire.bodies import Page
from premem.wire.tags import MOST_ROWS, MOST_UNTAGGED, TagCount, TagCounts, TaggedRows


class TagRoutes(RouteGroup):
    """Part of Client and AsyncClient."""

    @endpoint
    def tags(self, dataset: str) -> Steps[list[TagCount]]:
        """Get the tags of a data set, each with the number of rows that have it.

        Args:
            dataset: Its id.

        Raises:
            NotFound: There is no such data set.
        """
        return (yield from self._request(TagCounts, "GET", path_of("datasets", dataset, "tags"))).items

    @paginated
    def tagged_rows(self, dataset: str, tag: str) -> Listing[int]:
        """List the rows that have a tag, in the order of the data set; pages are requested as they are read.

        Args:
            dataset: Its id.
            tag: The tag.

        Raises:
            NotFound: There is no such data set.
        """
        cursor: str | None = None
        while True:
            response = yield from self._service.request("GET", _rows_path(dataset, tag), params={"cursor": cursor})
            page = parse(Page[int], response)
            yield from map(Item, page.items)
            if not (cursor := page.next_cursor):
                return

    @endpoint
    def tag_rows(self, dataset: str, tag: str, rows: Iterable[int]) -> Steps[None]:
        """Give rows a tag. The tag `excluded` keeps them out of everything that a policy chooses.

        Args:
            dataset: Id of the data set.
            tag: The tag: lower-case letters, digits, `.`, `_` and `-`.
            rows: Positions in the data set, from 0.

        Raises:
            NotFound: There is no such data set.
            InputError: A row is not there, or the tag is malformed.
            Conflict: The data set has as many tags as it can.
        """
        for part in _in_parts(rows, MOST_ROWS):
            body = TaggedRows(rows=part).model_dump(mode="json")
            yield from self._service.request("PUT", _rows_path(dataset, tag), body=body)

    @endpoint
    def untag_rows(self, dataset: str, tag: str, rows: Iterable[int]) -> Steps[None]:
        """Take a tag off some rows.

        Args:
            dataset: Id of the data set.
            tag: The tag.
            rows: Positions in the data set, from 0.

        Raises:
            NotFound: There is no such data set.
        """
        for part in _in_parts(rows, MOST_UNTAGGED):
            yield from self._service.request("DELETE", _rows_path(dataset, tag), params={"row": part})

    @endpoint
    def delete_tag(self, dataset: str, tag: str) -> Steps[None]:
        """Take a tag off every row.

        Args:
            dataset: Id of the data set.
            tag: The tag.

        Raises:
            NotFound: There is no such data set.
        """
        yield from self._service.request("DELETE", path_of("datasets", dataset, "tags", tag))


def _rows_path(dataset: str, tag: str) -> str:
    return path_of("datasets", dataset, "tags", tag, "rows")


def _in_parts(rows: Iterable[int], most: int) -> list[list[int]]:
    every = list(rows)
    return [every[first : first + most] for first in range(0, len(every), most)]
