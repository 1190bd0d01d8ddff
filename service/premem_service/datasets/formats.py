"""What people upload, as records: JSON Lines, a JSON array, Parquet, Arrow or CSV, plain or compressed.

All but CSV, which anything could be, are told apart by their first bytes.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic_core import from_json

from premem.errors import BadLine, RowsError
from premem_service.datasets.foreign import (
    HEAD_BYTES,
    TAKEN,
    check_beginning,
    check_lines,
    hint_at,
    hint_at_wrapping,
    separator_meant,
)

Row = dict[str, Any]
Batch = tuple[Sequence[int], Sequence[Row | BadLine]]
"""Some lines' numbers, from 1, and what stands on each."""

BLOCK_BYTES = 2**20
BATCH_ROWS = 1_024
BATCH_BYTES = 4 * 2**20
ARRAY_BYTES = 64 * 2**20
"""A JSON array can be read only as a whole."""
_TABLE_ROWS = 256  # a table can blow up: a dictionary holds a long text once for many rows

_CODECS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
Table = Literal["Parquet file", "Arrow file", "Arrow stream"]
_TABLES: dict[bytes, Table] = {
    b"PAR1": "Parquet file",
    b"ARROW1": "Arrow file",
    b"\xff\xff\xff\xff": "Arrow stream",
}
_JSON_FAULTS = {
    "unexpected end of hex escape": "holds half of a surrogate pair (such as \\ud800), which is no character",
    "lone leading surrogate": "holds half of a surrogate pair (such as \\ud800), which is no character",
    "invalid unicode code point": "is not UTF-8: save the file in that encoding",
    "recursion limit exceeded": "is nested more than 200 levels deep",
    "number out of range": "holds a number of too many digits",
    "control character": "holds a raw control character; write it as an escape such as \\n or \\u0000",
    "EOF while parsing": "ends in the middle of a JSON value: each row must stand whole on one line",
}


class TemporaryFile(Protocol):
    """Makes a local file that is gone after the block."""

    def __call__(self) -> AbstractContextManager[Path]: ...


Mend = Callable[[bytes], bytes]
"""Doubles the backslashes of JSON that begin no escape."""


def batches(
    blocks: Iterable[bytes],
    *,
    max_row_bytes: int,
    temporary_file: TemporaryFile,
    as_csv: bool = False,
    mended: Mend | None = None,
) -> Iterator[Batch]:
    """The rows of an upload with their line numbers, each either an object or what is wrong with it.

    Memory stays bounded whatever is sent: a line longer than `max_row_bytes` is skipped, not gathered; Parquet and
    Arrow go through a temporary file; a JSON array has at most ARRAY_BYTES. Blank lines are no rows but count as lines;
    where there are no lines, rows count from 1. `as_csv`: whatever is no table by its first bytes is CSV. `mended`: is
    tried on JSON that holds an escape which there is not.
    Raises RowsError, at once or while reading, where the whole upload cannot be read.
    """
    head, rest = _head(iter(blocks))
    codec = next((codec for magic, codec in _CODECS.items() if head.startswith(magic)), None)
    if codec is not None:
        head, rest = _head(_decompressed(chain([head], rest), codec))
        if any(head.startswith(magic) for magic in _CODECS):
            raise RowsError(f"the upload is compressed twice; {TAKEN}")
    for magic, table in _TABLES.items():
        if head.startswith(magic):
            return table_batches(chain([head], rest), table, temporary_file=temporary_file)
    check_beginning(head)
    head = head.removeprefix(b"\xef\xbb\xbf")
    if as_csv:
        return csv_batches(chain([head], rest), max_row_bytes=max_row_bytes)
    if head.lstrip().startswith(b"["):
        return array_batches(chain([head], rest), mended=mended)
    check_lines(head)
    return jsonl_batches(chain([head], rest), max_row_bytes=max_row_bytes, mended=mended)


def _head(blocks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Enough first bytes to tell the format, and the blocks after them."""
    head = b""
    for block in blocks:
        head += block
        if len(head) >= HEAD_BYTES:
            break
    return head, blocks


class _Stream(io.RawIOBase):
    """Blocks as a file."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._block = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._block:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._block = memoryview(block)
        taken = self._block[: len(buffer)]
        buffer[: len(taken)] = taken
        self._block = self._block[len(taken) :]
        return len(taken)


def _decompressed(blocks: Iterator[bytes], codec: str) -> Iterator[bytes]:
    """Arrow's reader takes concatenated members and frames, says when the end is missing, and never reads ahead."""
    stream = pa.CompressedInputStream(pa.PythonFile(io.BufferedReader(_Stream(blocks), BLOCK_BYTES), mode="r"), codec)
    while True:
        try:
            block = cast(bytes, stream.read(BLOCK_BYTES))
        except OSError as error:
            raise RowsError(f"the upload is no whole {codec} stream ({error}): compress it anew and send it") from error
        if not block:
            return
        yield block


# JSON Lines


def jsonl_batches(blocks: Iterable[bytes], *, max_row_bytes: int, mended: Mend | None = None) -> Iterator[Batch]:
    for numbers, lines in _lines(blocks, longest=max_row_bytes):
        yield (
            numbers,
            _objects(lines, max_row_bytes)
            or [_object(number, line, max_row_bytes, mended) for number, line in zip(numbers, lines, strict=True)],
        )


def _lines(blocks: Iterable[bytes], *, longest: int) -> Iterator[tuple[list[int], list[bytes]]]:
    """Lines that are not blank, with their numbers. Of a line that is too long only a part comes, still too long."""
    number = 0
    numbers: list[int] = []
    lines: list[bytes] = []
    carried = b""
    held = 0
    for block in blocks:
        pieces = block.split(b"\n")
        if len(carried) > longest and len(pieces) == 1:
            continue
        pieces[0] = carried + pieces[0]
        carried = pieces.pop()
        for line in pieces:
            number += 1
            if line and (not line.isspace() or len(line) > longest):
                numbers.append(number)
                lines.append(line)
        held += len(block)
        while len(lines) >= BATCH_ROWS or (lines and held >= BATCH_BYTES):
            yield numbers[:BATCH_ROWS], lines[:BATCH_ROWS]
            del numbers[:BATCH_ROWS], lines[:BATCH_ROWS]
            held = sum(map(len, lines))
    if carried and (not carried.isspace() or len(carried) > longest):
        numbers.append(number + 1)
        lines.append(carried)
    if lines:
        yield numbers, lines


def _objects(lines: Sequence[bytes], max_row_bytes: int) -> list[Row | BadLine] | None:
    """All lines at once where nothing is wrong with any of them (three times as fast); else None."""
    if max(map(len, lines)) > max_row_bytes:
        return None
    try:
        rows = [from_json(line) for line in lines]
    except ValueError:
        return None
    if {type(row) for row in rows} != {dict}:
        return None
    kinds = {type(value) for row in rows for value in row.values()}
    return rows if kinds <= _ALWAYS_FINITE or all(map(finite, rows)) else None


_ALWAYS_FINITE = {str, int, bool, type(None)}


def _object(number: int, line: bytes, max_row_bytes: int, mended: Mend | None) -> Row | BadLine:
    if len(line) > max_row_bytes:
        return BadLine(number, None, too_long(max_row_bytes) + hint_at_wrapping(line))
    try:
        row = _parsed(line, mended)
    except ValueError as error:
        return BadLine(number, None, _fault(str(error), line))
    return _checked(number, row)


def _parsed(content: bytes, mended: Mend | None) -> Any:
    """Raises ValueError."""
    try:
        return from_json(content)
    except ValueError as error:
        if mended is None or "invalid escape" not in str(error):
            raise
        return from_json(mended(content))


def _checked(number: int, row: object) -> Row | BadLine:
    if type(row) is not dict:
        return BadLine(number, None, f"is {_kind(row)}, not an object {{…}}")
    if not finite(row):
        return BadLine(number, None, "holds NaN, Infinity or a number too large for a float: write null")
    return row


def _fault(error: str, line: bytes) -> str:
    message, _, place = error.partition(" at line 1 column ")
    where = f" (at character {place})" if place else ""
    for key, fault in _JSON_FAULTS.items():
        if key in message:
            return fault + where
    if message == "trailing characters" and line[int(place or 1) - 1 :].strip() == b",":
        return f"has a comma behind its object{where}; in JSON Lines nothing stands between the rows"
    return f"is not JSON: {message}{where}{hint_at(message)}"


def _kind(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def too_long(max_row_bytes: int) -> str:
    return f"is longer than {max_row_bytes:,} bytes, the most that one row may have"


def finite(value: object) -> bool:
    """Whether a JSON value can be written as JSON again: infinities cannot."""
    if type(value) is dict:
        return all(finite(content) for content in value.values())
    if type(value) is list:
        return all(finite(content) for content in value)
    return type(value) is not float or math.isfinite(value)


# A JSON array


def array_batches(blocks: Iterable[bytes], *, mended: Mend | None = None) -> Iterator[Batch]:
    """Raises RowsError where the array is longer than ARRAY_BYTES or no JSON."""
    content = bytearray()
    for block in blocks:
        content += block
        if len(content) > ARRAY_BYTES:
            raise RowsError(
                f"the upload is a JSON array of more than {ARRAY_BYTES / 2**20:.0f} MiB; send one object per line "
                "(jq -c '.[]' array.json > rows.jsonl makes them)"
            )
    try:
        rows = _parsed(bytes(content), mended)
    except ValueError as error:
        hint = hint_at(str(error))
        raise RowsError(f"the upload starts with '[', as a JSON array does, but is none: {error}{hint}") from error
    for start in range(0, len(rows), BATCH_ROWS):
        taken = rows[start : start + BATCH_ROWS]
        numbers = range(start + 1, start + 1 + len(taken))
        yield numbers, [_checked(number, row) for number, row in zip(numbers, taken, strict=True)]


# CSV


def csv_batches(blocks: Iterable[bytes], *, max_row_bytes: int) -> Iterator[Batch]:
    """By the header's names; an empty cell is null. Raises RowsError where the whole cannot be read as CSV."""
    csv.field_size_limit(max_row_bytes)
    text = io.TextIOWrapper(io.BufferedReader(_Stream(iter(blocks)), BLOCK_BYTES), encoding="utf-8", newline="")
    under_way = 0

    def lines() -> Iterator[str]:
        """A record may span lines without end, and a line have no end: neither is gathered past the limit."""
        nonlocal under_way
        while line := text.readline(max_row_bytes + 1):
            under_way += len(line)
            if under_way > max_row_bytes:
                raise RowsError(f"the CSV's row after line {ended} {too_long(max_row_bytes)}")
            yield line

    reader = csv.reader(lines(), strict=True)
    names: list[str] = []
    numbers: list[int] = []
    rows: list[Row | BadLine] = []
    ended, held = 0, 0
    try:
        for cells in reader:
            number, ended, under_way = ended + 1, reader.line_num, 0
            if not names:
                names = _header(cells)
            elif cells:  # a blank line has none
                numbers.append(number)
                rows.append(_csv_row(number, names, cells))
                held += sum(map(len, cells))
            if len(rows) == BATCH_ROWS or held >= BATCH_BYTES:
                yield numbers, rows
                numbers, rows, held = [], [], 0
    except UnicodeDecodeError as error:
        raise RowsError(
            f"the upload cannot be read as CSV after line {ended}: it is not UTF-8 ({error.reason}); save the file in that "
            "encoding"
        ) from error
    except csv.Error as error:
        raise RowsError(
            f"the upload cannot be read as CSV after line {ended}: {error}; cells stand between commas, those that hold "
            'commas, quotes or line breaks between double quotes, and a quote within is doubled ("")'
        ) from error
    if rows:
        yield numbers, rows


def _header(cells: list[str]) -> list[str]:
    if not all(name.strip() for name in cells):
        raise RowsError(
            "the first line of a CSV must name every column, and one has no name; a column of row numbers is left out by "
            "to_csv(index=False)"
        )
    other = separator_meant(cells[0]) if len(cells) == 1 else None
    if other is not None:
        raise RowsError(
            f"the CSV has one column, {cells[0][:200]!r}, whose name holds {other}: save the file with commas as the "
            "separator between cells"
        )
    twice = sorted({name for name in cells if cells.count(name) > 1})
    if twice:
        raise RowsError(f"the CSV has two columns named {twice[0]!r}: rename one")
    return cells


def _csv_row(number: int, names: list[str], cells: list[str]) -> Row | BadLine:
    if len(cells) != len(names):
        return BadLine(number, None, f"has {len(cells)} cells, the first line {len(names)}")
    return {name: cell or None for name, cell in zip(names, cells, strict=True)}


# Parquet and Arrow


def table_batches(blocks: Iterable[bytes], table: Table, *, temporary_file: TemporaryFile) -> Iterator[Batch]:
    """A table's rows count as lines from 1. Raises RowsError where the file is damaged."""
    with temporary_file() as path:
        with path.open("wb") as spool:
            spool.writelines(blocks)
        read = 0
        try:
            for batch in _record_batches(path, table):
                numbers = range(read + 1, read + 1 + batch.num_rows)
                yield numbers, _rows(batch, numbers)
                read += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            where = f" after row {read}" if read else ""
            raise RowsError(f"the upload is no whole {table}{where}: {error}") from error


def _record_batches(path: Path, table: Table) -> Iterator[pa.RecordBatch]:
    if table == "Parquet file":
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=BLOCK_BYTES) as file:
            _check_schema(file.schema_arrow, table)
            yield from file.iter_batches(batch_size=_TABLE_ROWS, use_threads=False)
        return
    with pa.memory_map(str(path)) as source:
        opened = pa.ipc.open_file(source) if table == "Arrow file" else pa.ipc.open_stream(source)
        _check_schema(opened.schema, table)
        every = map(opened.get_batch, range(opened.num_record_batches)) if table == "Arrow file" else opened
        for batch in every:
            batch.validate(full=True)  # Arrow trusts what it maps: offsets of a damaged file lead anywhere
            for start in range(0, batch.num_rows, _TABLE_ROWS):
                yield batch.slice(start, _TABLE_ROWS)


def _check_schema(schema: pa.Schema, table: Table) -> None:
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise RowsError(f"the {table} has two columns named {twice[0]!r}: rename one")
    for field in schema:
        if _holds_bytes(field.type):
            raise RowsError(
                f"the {table}'s column {field.name!r} holds binary data ({field.type}), which cannot be kept "
                "as JSON: leave it out or turn it into text"
            )


def _holds_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return True
    return any(_holds_bytes(kind.field(index).type) for index in range(kind.num_fields))


def _rows(batch: pa.RecordBatch, numbers: Sequence[int]) -> list[Row | BadLine]:
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):  # one of them: text that is not UTF-8, a date that Python does not have
        rows = [_row(batch.slice(offset, 1), number) for offset, number in enumerate(numbers)]
    return [
        row if isinstance(row, BadLine) else _as_json(row, number) for row, number in zip(rows, numbers, strict=True)
    ]


def _row(slice_of_one: pa.RecordBatch, number: int) -> Row | BadLine:
    for name, column in zip(slice_of_one.schema.names, slice_of_one.columns, strict=True):
        try:
            column.to_pylist()
        except (ValueError, OverflowError) as error:
            return BadLine(number, name, f"cannot be read: {error}")
    return cast(Row, slice_of_one.to_pylist()[0])


def _as_json(row: Row, number: int) -> Row | BadLine:
    """NaN is how pandas writes a missing number: it becomes null."""
    for name, value in row.items():
        if type(value) is float:
            if math.isnan(value):
                row[name] = None
            elif math.isinf(value):
                return BadLine(number, name, "is infinite, which JSON cannot hold")
        elif type(value) in (list, dict):
            row[name] = value = _without_nan(value)
            if not finite(value):
                return BadLine(number, name, "holds an infinite number, which JSON cannot hold")
    return row


def _without_nan(value: Any) -> Any:
    if type(value) is float:
        return None if math.isnan(value) else value
    if type(value) is dict:
        return {name: _without_nan(content) for name, content in value.items()}
    if type(value) in (list, tuple):
        return [_without_nan(content) for content in value]
    return value


def readable(file: IO[bytes]) -> Iterator[bytes]:
    """A file's blocks, for `batches`."""
    while block := file.read(BLOCK_BYTES):
        yield block
