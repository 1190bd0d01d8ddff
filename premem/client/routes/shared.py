"""What the routes of the clients share: an answer as its type, lists page by page, rows into a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from premem.client.replies import ReplyKind, parsed, pause_before_retry
from premem.client.transport import Asking, Item, Listing, Params, Pause, Steps, is_passing
from premem.errors import ServiceError
from premem.files import whole_file
from premem.wire.bodies import Page
from premem.wire.curation import Choice

Target = str | os.PathLike[str] | IO[bytes]
"""A file, or a stream that is open for writing."""


class Told:
    """A service that can be asked (see asking.py)."""

    _asking: Asking

    def _told(self, kind: type[ReplyKind], method: str, path: str, **how: Any) -> Steps[ReplyKind]:
        return parsed(kind, (yield from self._asking.ask(method, path, **how)))

    def _pages(self, path: str, kind: type[ReplyKind]) -> Listing[ReplyKind]:
        cursor: str | None = None
        while True:
            page = yield from self._told(Page[kind], "GET", path, params={"cursor": cursor})  # type: ignore[valid-type]
            yield from map(Item, page.items)
            if not (cursor := page.next_cursor):
                return

    def _write(self, path: str, params: Params, target: Target) -> Steps[int]:
        """Rows into a stream, once, or into a file, which is there whole or not at all. Returns how many."""
        if not isinstance(target, str | os.PathLike):
            return (yield from self._asking.download(path, params, target))
        attempt = 1
        while True:
            try:
                with whole_file(Path(target)) as out:
                    return (yield from self._asking.download(path, params, out))
            except ServiceError as error:
                if not is_passing(error) or attempt == self._asking.attempts:
                    raise
            yield Pause(pause_before_retry(attempt))
            attempt += 1


def quoted(name: str) -> str:
    return quote(name, safe="")


def as_query(choice: Choice) -> dict[str, str | float | None]:
    return {name: value for name, value in choice.items() if isinstance(value, str | float | int)}
