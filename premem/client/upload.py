"""The body of an upload as a stream of bytes: a path, an open file, dicts, or a remote source (sources.py)."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from premem.client.python_rows import json_row
from premem.client.sources import HubRows, StoredFile, is_source, source
from premem.errors import InputError

BLOCK_BYTES = 2**20
Rows = str | os.PathLike[str] | IO[bytes] | Iterable[Mapping[str, Any]]


class Upload:
    """Rows that can be sent. `progress` is called with the bytes sent so far, from 0 again at each attempt.

    Raises InputError where there is nothing to send.
    """

    def __init__(self, rows: Rows, *, progress: Callable[[int], None] | None = None) -> None:
        self.name: str | None = None
        """The file's name, shown to people."""
        self.content_type = "application/octet-stream"
        self.spent = False
        """True: rows that can be read only once have been read, so a second attempt is impossible."""
        self._progress = progress
        self._once = False
        self._open = self._opener(rows)

    def blocks(self) -> Iterator[bytes]:
        sent = 0
        self.spent = self._once
        for block in self._open():
            yield block
            sent += len(block)
            if self._progress:
                self._progress(sent)

    def _opener(self, rows: Rows) -> Callable[[], Iterator[bytes]]:
        if isinstance(rows, str) and is_source(rows):
            return self._source_opener(source(rows))
        if isinstance(rows, str | os.PathLike):
            path = Path(rows)
            if not path.is_file():
                raise InputError(f"{rows}: {_why_no_file(path)}")
            self._set_name(path.name)
            return lambda: _read_path(path)
        if hasattr(rows, "read"):
            return self._file_opener(cast(IO[bytes], rows))
        if isinstance(rows, Mapping | bytes):
            raise InputError(f"rows must be a path, an open binary file or many dicts, not {type(rows).__name__}")
        self.content_type = "application/jsonl"
        self._once = not isinstance(rows, Sequence)
        return lambda: _encode(rows)

    def _set_name(self, name: str) -> None:
        self.name = name[:200]
        if name.lower().removesuffix(".gz").removesuffix(".zst").endswith(".csv"):
            self.content_type = "text/csv"

    def _source_opener(self, remote: HubRows | StoredFile) -> Callable[[], Iterator[bytes]]:
        self._set_name(remote.name)
        if isinstance(remote, StoredFile):
            return remote.blocks
        self.content_type = "application/jsonl"
        return lambda: _encode(remote.rows(), where=f"{remote.url}: ")

    def _file_opener(self, file: IO[bytes] | io.TextIOBase) -> Callable[[], Iterator[bytes]]:
        if isinstance(file, io.TextIOBase):
            raise InputError("open the file in binary mode ('rb'): it is sent as it is")
        if not (hasattr(file, "seekable") and file.seekable()):
            self._once = True
            return lambda: _read(file)
        start = file.tell()

        def read_again() -> Iterator[bytes]:
            file.seek(start)
            return _read(file)

        return read_again


def _why_no_file(path: Path) -> str:
    if path.is_dir():
        return "a folder, not a file"
    if "://" in str(path) or ":/" in str(path):
        return "rows are read from files, hf://org/name?split=train and s3://bucket/key"
    return "there is no such file"


def _read_path(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from _read(file)


def _read(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def _encode(rows: Iterable[Mapping[str, Any]], *, where: str = "") -> Iterator[bytes]:
    """JSONL in blocks. Raises InputError for a row that JSON cannot hold."""
    block = bytearray()
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise InputError(f"{where}row {number} is {type(row).__name__}, not a dict of columns{_of_a_table(rows)}")
        try:
            block += json_row(row) + b"\n"
        except InputError as error:
            raise InputError(f"{where}row {number}{error}") from error
        if len(block) >= BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


def _of_a_table(rows: object) -> str:
    """How to make dicts of a table, whose iteration gives its columns."""
    ways = {"pandas": "to_dict('records')", "polars": "to_dicts()", "pyarrow": "to_pylist()"}
    way = ways.get(type(rows).__module__.partition(".")[0])
    return f": send the table's {way}" if way else ""
