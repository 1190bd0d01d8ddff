"""How programs of different versions understand each other (docs/compatibility.md).

Client and worker say their version in the User-Agent; the service refuses fields that it does not know and, to a newer
sender, says that it wants an upgrade. In the other direction fields that are not known are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from premem.wire.bodies import Reply

VERSION = version("premem")

ReplyKind = TypeVar("ReplyKind", bound=Reply)

_USER_AGENT = re.compile(r"premem-(?:client|worker)/(\d+(?:\.\d+)*)")


def user_agent(program: Literal["client", "worker"]) -> str:
    return f"premem-{program}/{VERSION}"


def version_of(user_agent: str) -> str | None:
    """Of the client or worker that sends this header; None where somebody else does, such as a browser."""
    found = _USER_AGENT.match(user_agent)
    return found[1] if found else None


def is_newer(one: str, *, than: str) -> bool:
    """By the numbers of both versions: 0.10 is newer than 0.9, and 0.2.0 not newer than 0.2."""
    return _numbers(one) > _numbers(than)


def read_reply(kind: type[ReplyKind], content: bytes) -> ReplyKind:
    """A reply without the fields that a newer service added. Raises ValidationError where it is no `kind`.

    Replies ignore them by themselves; what they share with requests, such as Sampling, refuses them.
    """
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        faults = error.errors()
        if any(fault["type"] != "extra_forbidden" for fault in faults):
            raise
        known = json.loads(content)
        for fault in faults:
            _remove(known, fault["loc"])
        return kind.model_validate_json(json.dumps(known))


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _remove(content: Any, path: Sequence[int | str]) -> None:
    for place in path[:-1]:
        content = content[place]
    del content[path[-1]]
