"""Opaque cursors: where the next page begins. Clients pass them on without reading them."""

from __future__ import annotations

import base64
import binascii
import json

from premem_service.http.problems import FieldError


def encode(place: int, *, of: str) -> str:
    """Make a cursor. `of` names the list, so that a cursor of another list is refused."""
    return base64.urlsafe_b64encode(json.dumps([of, place]).encode()).decode().rstrip("=")


def decode(cursor: str | None, *, of: str) -> int | None:
    """The place of a cursor, or None for the first page. Raises FieldError for a cursor that `encode` did not make."""
    if not cursor:
        return None
    try:
        found, place = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError):
        found, place = None, None
    if found != of or type(place) is not int or not 0 <= place < 2**62:
        raise FieldError("cursor", "is none of this list; leave it away for the first page")
    return place
