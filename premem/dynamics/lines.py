"""The lines of a log, by their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Lines that are not blank, counted from 1 in the file. They end at \n alone: a text may hold other line breaks."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as opened:
        for number, line in enumerate(opened, start=1):
            if line.strip():
                yield number, line
