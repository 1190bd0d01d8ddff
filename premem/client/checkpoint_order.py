"""The order in which a run's checkpoints were saved, from the names of their folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

TRAILING_NUMBER = re.compile(r"^(.*?)(\d+)$", re.DOTALL)


def in_order_of_steps(paths: Sequence[str]) -> list[str]:
    """Sorted by the number that the names end in: a shell puts checkpoint-112 before checkpoint-28.

    In the given order where they differ in anything else: a name without a number, another folder, another word before
    the number.
    """
    keys = [_key(path) for path in paths]
    if None in keys or len({key[:2] for key in keys if key}) > 1:
        return list(paths)
    # Equal numbers keep the given order: sorted is stable.
    return sorted(paths, key=lambda path: key[2] if (key := _key(path)) else 0)


def _key(path: str) -> tuple[PurePath, str, int] | None:
    """Folder, word and number."""
    pure = PurePath(path)
    found = TRAILING_NUMBER.match(pure.name)
    return (pure.parent, found[1], int(found[2])) if found else None


def unique_names(paths: Sequence[str]) -> list[str]:
    """The last part of each path, or as many parts as make it unique."""
    parts = [PurePath(path).parts for path in paths]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return ["/".join(part) for part in parts]
