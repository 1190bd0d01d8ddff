"""Routes about tags, what people say of examples (see client.py)."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from premem.client.replies import parsed
from premem.client.transport import Asking, Item, Listing, Steps, asked, listed
from premem.wire.bodies import Page
from premem.wire.tags import MOST_ROWS, MOST_UNTAGGED, TagCount, TagCounts, TaggedRows


class TagRoutes:
    _asking: Asking

    @asked
    def tags(self, dataset: str) -> Steps[list[TagCount]]:
        """The tags of a data set, each with how many rows have it."""
        return parsed(TagCounts, (yield from self._asking.ask("GET", _path(dataset)))).items

    @listed
    def tagged_rows(self, dataset: str, tag: str) -> Listing[int]:
        """The rows that have a tag, in the order of the data set, asked for page by page."""
        cursor: str | None = None
        while True:
            answer = yield from self._asking.ask("GET", _path(dataset, tag, "rows"), params={"cursor": cursor})
            page = parsed(Page[int], answer)
            yield from map(Item, page.items)
            if not (cursor := page.next_cursor):
                return

    @asked
    def tag_rows(self, dataset: str, tag: str, rows: Iterable[int]) -> Steps[None]:
        """Give rows a tag; `excluded` keeps them out of every choice. Raises InputError for rows that are not there."""
        for some in _parts(rows, MOST_ROWS):
            body = TaggedRows(rows=some).model_dump(mode="json")
            yield from self._asking.ask("PUT", _path(dataset, tag, "rows"), body=body)

    @asked
    def untag_rows(self, dataset: str, tag: str, rows: Iterable[int]) -> Steps[None]:
        """Take a tag off some rows."""
        for some in _parts(rows, MOST_UNTAGGED):
            yield from self._asking.ask("DELETE", _path(dataset, tag, "rows"), params={"row": some})

    @asked
    def delete_tag(self, dataset: str, tag: str) -> Steps[None]:
        """Take a tag off every row."""
        yield from self._asking.ask("DELETE", _path(dataset, tag))


def _path(dataset: str, *parts: str) -> str:
    return "/".join(["/v1/datasets", *(quote(part, safe="") for part in (dataset, "tags", *parts))])


def _parts(rows: Iterable[int], most: int) -> list[list[int]]:
    known = list(rows)
    return [known[first : first + most] for first in range(0, len(known), most)]
