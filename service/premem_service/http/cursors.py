"""Opaque cursors: where the next page begins, in a form that clients pass on and do not read."""

from __future__ import annotations

import base64
import binascii
import json

from premem_service.http.problems import FieldError


def encode(place: int, *, of: str) -> str:
    """`of` names the list, so that a cursor of one is not taken for another's."""
    return base64.urlsafe_b64encode(json.dumps([of, place]).encode()).decode().rstrip("=")


def decode(cursor: str | None, *, of: str) -> int | None:
    """The place, or None for the first page. Raises FieldError for what `encode` did not make."""
    if not cursor:
        return None
    try:
        found, place = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError):
        found, place = None, None
    if found != of or type(place) is not int or not 0 <= place < 2**62:
        raise FieldError("cursor", "is none of this list; leave it away for the first page")
    return place
