"""What an upload is that cannot be taken, by its first bytes: what to call it, and what to do."""

from __future__ import annotations

import re

from pydantic_core import from_json

from premem.errors import BadLine, RowsError

TAKEN = (
    "send JSON Lines (UTF-8, one object per line), a JSON array of objects, Parquet, Arrow, or CSV with the "
    "Content-Type text/csv (a file named .csv); each plain or compressed with gzip or zstd"
)
HEAD_BYTES = 512
"""Enough to tell: tar has its mark at byte 257."""

_BEGINNINGS = {
    b"PK\x03\x04": "a zip archive, as Excel's workbooks are, too: unpack it, or save the sheet as CSV",
    b"PK\x05\x06": "an empty zip archive",
    b"BZh": "a bzip2 file: unpack it (bunzip2)",
    b"\xfd7zXZ": "an xz file: unpack it (unxz)",
    b"\x04\x22\x4d\x18": "an lz4 file: unpack it (unlz4)",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it",
    b"Rar!\x1a\x07": "a RAR archive: unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save the sheet as CSV",
    b"SQLite": "an SQLite database: export the table as CSV",
    b"\x93NUMPY": "an array of NumPy",
    b"\x80\x04": "a pickle, which can run programs and is not read",
    b"\x80\x05": "a pickle, which can run programs and is not read",
    b"ORC": "an ORC file: convert it to Parquet",
    b"FEA1": "a Feather file of version 1: write version 2, which is Arrow",
    b"Obj\x01": "an Avro file: convert it to Parquet",
    b"\x89HDF": "an HDF5 file: convert it to Parquet",
    b"%PDF": "a PDF",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: fetch that (git lfs pull)",
}
_PAGES = (b"<!doctype html", b"<html")
_SEPARATORS = {b"\t": "tabs", b";": "semicolons", b"|": "bars", b",": "commas"}
_LONGEST_PEEK = 2**20


def check_beginning(head: bytes) -> None:
    """Raises RowsError where the first HEAD_BYTES are those of a format, or an encoding, that is not read."""
    encoding = _encoding(head)
    if encoding is not None:
        save = f"save it as UTF-8 (iconv -f {encoding} -t UTF-8 FILE > NEW)"
        raise RowsError(f"the upload is {encoding[:6]} text: {save}")
    what = next((what for magic, what in _BEGINNINGS.items() if head.startswith(magic)), None)
    if what is None and head[257:262] == b"ustar":
        what = "a tar archive: unpack it"
    if what is None and head.lstrip().lower().startswith(_PAGES):
        what = "a web page: download the file itself"
    if what is not None:
        raise RowsError(f"the upload is {what}; {TAKEN}")


def _encoding(head: bytes) -> str | None:
    """UTF-32 or UTF-16 by its mark, or by where the zeros stand: a row begins with characters of ASCII."""
    for mark, name in {
        b"\xff\xfe\0\0": "UTF-32",
        b"\0\0\xfe\xff": "UTF-32",
        b"\xff\xfe": "UTF-16",
        b"\xfe\xff": "UTF-16",
    }.items():
        if head.startswith(mark):
            return name
    zeros = [byte == 0 for byte in head[:8]]
    for name, pattern in {
        "UTF-32LE": [False, True, True, True],
        "UTF-32BE": [True, True, True, False],
        "UTF-16LE": [False, True, False, True],
        "UTF-16BE": [True, False, True, False],
    }.items():
        if len(zeros) >= 4 and zeros == (pattern * 2)[: len(zeros)]:
            return name
    return None


def check_lines(head: bytes) -> None:
    """Raises RowsError where the first block is no JSON Lines though it is text: one name for what is wrong everywhere."""
    text = head.lstrip()
    number = head[: len(head) - len(text)].count(b"\n") + 1
    head = text[:_LONGEST_PEEK]
    first, ended, _ = head.partition(b"\n")
    first = first.strip()
    if first.startswith(b"{"):
        if ended and not _is_whole(first):
            _check_object_over_lines(head, number)
    elif ended and not first.startswith((b"#", b"//", b'"{', b"[")):
        _check_separated(first, number)


def _is_whole(line: bytes) -> bool:
    try:
        from_json(line)
    except ValueError as error:
        return "EOF" not in str(error)
    return True


def _check_object_over_lines(head: bytes, number: int) -> None:
    """A first line that breaks off where another one goes on."""
    try:
        first = from_json(head, allow_partial="trailing-strings")
    except ValueError:  # its line says what is wrong with it
        return
    if type(first) is not dict:
        return
    lists = [name for name, value in first.items() if type(value) is list and value and type(value[0]) is dict]
    if lists and "role" not in first[lists[0]][0] and "from" not in first[lists[0]][0]:
        raise RowsError(
            f"the upload is one object around a list of rows, in its field {lists[0]!r}: send the rows by themselves, "
            f"one per line (jq -c '.[\"{lists[0]}\"][]' FILE > rows.jsonl)",
            [BadLine(number, None, "begins an object that goes on over lines")],
        )
    raise RowsError(
        f"line {number} begins an object that goes on over several lines: each row must stand whole on one line "
        "(jq -c . FILE > rows.jsonl)",
        [BadLine(number, None, "begins an object that goes on over lines")],
    )


def _check_separated(first: bytes, number: int) -> None:
    for separator, name in _SEPARATORS.items():
        if separator in first:
            how = "" if name == "commas" else ", separated by commas"
            raise RowsError(
                f"line {number} is no JSON object, and looks like the names of columns between {name}: send it as CSV{how}, "
                "with the Content-Type text/csv (a file named .csv)",
                [BadLine(number, None, "is no JSON object")],
            )


def separator_meant(name: str) -> str | None:
    """What a CSV's only column is cut by instead of commas: semicolons, as a European Excel writes, tabs or bars."""
    return next((word for sign, word in _SEPARATORS.items() if sign.decode() in name and word != "commas"), None)


_WRAPPED = re.compile(rb'\s*\{\s*"([^"\\]{1,100})"\s*:\s*\[\s*\{\s*"(?!role"|from"|content"|value")')


def hint_at_wrapping(line: bytes) -> str:
    """Behind a line that is too long: nothing, unless it begins as an object around all rows does."""
    wrapped = _WRAPPED.match(line[:1000])
    if wrapped is None:
        return ""
    name = wrapped[1].decode("utf-8", "replace")
    return f"; if it is an object around the list of rows, send these one per line (jq -c '.[\"{name}\"][]' FILE > rows.jsonl)"


def hint_at(message: str) -> str:
    """Behind a fault of JSON: what to do about it; nothing where that is plain."""
    return next((f"; {hint}" for fault, hint in _HINTS.items() if fault in message), "")


_HINTS = {
    "invalid escape": "a backslash, as LaTeX has it, must be doubled in JSON: write \\\\alpha, or have them doubled with "
    "?repair_latex=true",
    "key must be a string": "in JSON keys and texts stand between double quotes, as json.dumps writes them",
    "trailing comma": "remove the comma behind the last entry",
}
