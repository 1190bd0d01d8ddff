"""Rows read out of bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from premem_service.datasets.formats import batches


def read(content: bytes, *, size: int = 2**16, max_row_bytes: int = 2**20) -> list[tuple[int, object]]:
    """All lines with what stands on them, of an upload that arrives in pieces of `size` bytes."""
    pieces = (content[start : start + size] for start in range(0, len(content), size))
    uploaded = batches(pieces, max_row_bytes=max_row_bytes, temporary_file=temporary_file)
    return [line for numbers, rows in uploaded for line in zip(numbers, rows, strict=True)]


@contextmanager
def temporary_file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "spool"


def read_csv(content: bytes, *, size: int = 7) -> list[tuple[int, object]]:
    pieces = (content[start : start + size] for start in range(0, len(content), size))
    uploaded = batches(pieces, max_row_bytes=2**20, temporary_file=temporary_file, as_csv=True)
    return [line for numbers, rows in uploaded for line in zip(numbers, rows, strict=True)]
