"""Replies that notebooks and rich print as people read them. What they print is registered by premem.output.display."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import singledispatch
from typing import TYPE_CHECKING, Any, ClassVar

from premem.wire.bodies import Reply

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

SHORT_TEXT = 80
"""Characters that a repr shows of one text."""


@singledispatch
def as_parts(reply: object) -> Sequence[RenderableType]:
    """Tables and lines for rich; the repr of a kind that nothing is registered for."""
    from rich.text import Text

    return [Text(repr(reply))]


@singledispatch
def as_html(reply: object) -> str | None:
    """A piece of HTML for notebooks; None, and so the repr, of a kind that nothing is registered for."""
    return None


class DisplayedReply(Reply):
    """A reply that prints well: as tables in a notebook and with rich, and on one line as its repr."""

    repr_fields: ClassVar[tuple[str, ...]]
    """What the repr shows; of a list its length."""

    def _repr_html_(self) -> str | None:
        return as_html(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        yield from as_parts(self)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name in self.repr_fields:
            yield name, _short(getattr(self, name))


class _Unquoted(str):
    """Its own repr."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _short(value: object) -> object:
    if isinstance(value, list):
        return _Unquoted(f"<list of {len(value):,}>")
    if isinstance(value, str) and len(value) > SHORT_TEXT:
        return value[: SHORT_TEXT - 1] + "…"
    return value
