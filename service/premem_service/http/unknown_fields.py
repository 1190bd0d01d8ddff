"""What is said of fields and query parameters that this service does not know: their names, and what to do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from fastapi import Request
from pydantic import BaseModel

from premem.wire.compatibility import VERSION, is_newer, version_of


def unknown_field(name: str, known: Collection[str], request: Request, *, what: str = "field") -> str:
    """`known`: the names that there are where this one was found."""
    sender = version_of(request.headers.get("user-agent", ""))
    if sender is not None and is_newer(sender, than=VERSION):
        return (
            f"is a {what} that this service does not know, sent by premem {sender}: upgrade the service (this one is "
            f"version {VERSION}), or leave the {what} out"
        )
    close = get_close_matches(name, known, n=1)
    return f"there is no such {what}; did you mean {close[0]}?" if close else f"there is no such {what}; leave it out"


def fields_beside(request: Request, location: Sequence[int | str]) -> list[str]:
    """Names of the fields that there are where a body has one that is not known. `location`: from the body on."""
    body = getattr(request.scope.get("route"), "body_field", None)
    kinds = [] if body is None else list(_models(body.field_info.annotation))
    for place in location[:-1]:
        if isinstance(place, str):
            fields = (kind.model_fields.get(place) for kind in kinds)
            kinds = [model for field in fields if field is not None for model in _models(field.annotation)]
    return sorted({name for kind in kinds for name in kind.model_fields})


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Those that a type holds: of `list[Checkpoint] | None` it is Checkpoint."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
