"""The folders below which checkpoints may be, and paths in them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode


def _split(roots: object) -> object:
    """In the environment, the folders are separated as in PATH, or are a JSON list."""
    if not isinstance(roots, str):
        return roots
    if roots.lstrip().startswith("["):
        try:
            return json.loads(roots)
        except json.JSONDecodeError as error:
            raise ValueError(f"{roots!r} is no JSON list: {error}") from error
    return [root for root in roots.split(os.pathsep) if root]


def _are_folders(roots: list[Path]) -> list[Path]:
    for root in roots:
        if not root.is_dir():
            raise ValueError(f"{root} is no folder")
    return [root.resolve() for root in roots]


Roots = Annotated[list[Path], NoDecode, BeforeValidator(_split), AfterValidator(_are_folders)]
"""A setting: folders that exist, links in them followed."""


def lying_under(path: Path, roots: Sequence[Path]) -> list[Path]:
    """Where a path below one of `roots` may be. A relative path is tried below each root. It need not exist.

    Links and `..` are resolved before the comparison with the roots, so that neither leads out of them. Raises
    OSError, RuntimeError and ValueError for what is not a path: a name that is too long, links in a circle, a NUL.
    """
    candidates = [path.resolve()] if path.is_absolute() else [(root / path).resolve() for root in roots]
    return [one for one in candidates if any(one.is_relative_to(root) for root in roots)]
