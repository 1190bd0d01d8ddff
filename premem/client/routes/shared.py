"""What the groups of routes share: a response as its type, lists page by page, rows written to a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from premem.client.replies import ReplyKind, parse, pause_before_retry
from premem.client.transport import Item, Listing, Params, Pause, Service, Steps, is_passing
from premem.errors import ServiceError
from premem.files import whole_file
from premem.wire.bodies import Page
from premem.wire.curation import Choice

Target = str | os.PathLike[str] | IO[bytes]
"""A path, or a binary stream that is open for writing."""


class RouteGroup:
    """Routes of one noun, as generators of steps (transport.py); Client and AsyncClient make methods of them."""

    _service: Service

    def _request(self, kind: type[ReplyKind], method: str, path: str, **options: Any) -> Steps[ReplyKind]:
        """One request, its response as a `kind`. `options`: those of Service.request."""
        return parse(kind, (yield from self._service.request(method, path, **options)))

    def _pages(self, path: str, kind: type[ReplyKind]) -> Listing[ReplyKind]:
        """The items of all pages."""
        cursor: str | None = None
        while True:
            page = yield from self._request(Page[kind], "GET", path, params={"cursor": cursor})  # type: ignore[valid-type]
            yield from map(Item, page.items)
            if not (cursor := page.next_cursor):
                return

    def _write(self, path: str, params: Params, target: Target) -> Steps[int]:
        """Rows into a stream, in one attempt, or into a file, which is there whole or not at all. Returns how many."""
        if not isinstance(target, str | os.PathLike):
            return (yield from self._service.download(path, params, target))
        attempt = 1
        while True:
            try:
                with whole_file(Path(target)) as out:
                    return (yield from self._service.download(path, params, out))
            except ServiceError as error:
                if not is_passing(error) or attempt == self._service.attempts:
                    raise
            yield Pause(pause_before_retry(attempt))
            attempt += 1


def path_of(*parts: str | int) -> str:
    """The path of a route, each part quoted: `path_of("jobs", job, "report")`."""
    return "/".join(["/v1", *(quote(str(part), safe="") for part in parts)])


def as_query(choice: Choice) -> dict[str, str | float | None]:
    return {name: value for name, value in choice.items() if isinstance(value, str | float | int)}
