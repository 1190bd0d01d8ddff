from __future__ import annotations

import gzip
import io
import json
import tracemalloc

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from premem.errors import BadLine, RowsError
from tests.service.datasets.reading_rows import read

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TOO_LONG = BadLine(1, None, "is longer than 1,048,576 bytes, the most that one row may have")
ROWS = st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=4), max_size=8)


def fault(line: bytes) -> str:
    """Of the second of three lines."""
    lines = read(b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    (number, bad) = lines[1]
    assert isinstance(bad, BadLine)
    assert (number, bad.line) == (2, 2)
    assert [row for _, row in (lines[0], lines[2])] == [{"a": 1}, {"a": 3}]
    return bad.message


def parquet(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out)
    return out.getvalue()


@given(rows=ROWS, size=st.integers(1, 50))
def test_any_rows_are_read_back_however_the_bytes_are_cut(rows: list[dict[str, object]], size: int):
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)

    assert [row for _, row in read(content, size=size)] == rows


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
@pytest.mark.parametrize("size", [1, 7, 2**16])
def test_compressed_rows_are_read_also_in_several_members(compress, size: int):
    first, second = b'{"a": 1}\n{"a"', b": 2}\n"

    assert read(compress(first) + compress(second), size=size) == [(1, {"a": 1}), (2, {"a": 2})]


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_truncated_compressed_stream_is_refused(compress):
    whole = compress(b'{"a": 1}\n' * 1000)

    for cut in (len(whole) - 1, len(whole) // 2, 10):
        with pytest.raises(RowsError, match=r"no whole (gzip|zstd) stream"):
            read(whole[:cut])


def test_a_compressed_stream_with_rubbish_behind_it_is_refused():
    with pytest.raises(RowsError, match="no whole gzip stream"):
        read(gzip.compress(b'{"a": 1}\n') + b"rubbish")


def test_a_gzip_bomb_is_read_in_bounded_memory():
    bomb = gzip.compress(b" " * 2**28)  # 256 MB of blanks: one line that never ends

    tracemalloc.start()
    lines = read(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert lines == [(1, TOO_LONG)]
    assert peak < 2**25


def test_an_endless_line_is_skipped_in_bounded_memory():
    long = gzip.compress(b'{"a": "' + b"x" * 2**27 + b'"}\n{"a": 2}\n')

    tracemalloc.start()
    lines = read(long)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert lines == [(1, TOO_LONG), (2, {"a": 2})]
    assert peak < 2**25


def test_a_line_of_the_greatest_length_is_taken_and_one_byte_more_is_not():
    line = b'{"a": "xx"}'

    assert read(line, max_row_bytes=len(line)) == [(1, {"a": "xx"})]
    assert isinstance(read(line, max_row_bytes=len(line) - 1)[0][1], BadLine)
    assert isinstance(read(line, size=1, max_row_bytes=3)[0][1], BadLine)


def test_blank_lines_and_carriage_returns_are_no_rows_but_count_as_lines():
    assert read(b'\r\n{"a": 1}\r\n\r\n  \n{"a": 2}\r\n\n') == [(2, {"a": 1}), (5, {"a": 2})]


def test_a_byte_order_mark_is_passed_over():
    assert read(b'\xef\xbb\xbf{"a": 1}\n') == [(1, {"a": 1})]


def test_the_last_line_needs_no_newline():
    assert read(b'{"a": 1}\n{"a": 2}') == [(1, {"a": 1}), (2, {"a": 2})]


def test_nothing_is_no_rows():
    assert read(b"") == []
    assert read(b"\n\n") == []
    assert read(gzip.compress(b"")) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": tru}', "is not JSON: expected ident (at character 10)"),
        (
            b"{'a': 1}",
            "is not JSON: key must be a string (at character 2); in JSON keys and texts stand between double quotes, as json.dumps writes them",
        ),
        (b'{"a": 1,}', "is not JSON: trailing comma (at character 9); remove the comma behind the last entry"),
        (b'{"a": 1} {"a": 2}', "is not JSON: trailing characters (at character 10)"),
        (b'{"a": ', "ends in the middle of a JSON value: each row must stand whole on one line (at character 6)"),
        (b"[1, 2]", "is an array, not an object {…}"),
        (b'"text"', "is a string, not an object {…}"),
        (b"17", "is a number, not an object {…}"),
        (b"null", "is null, not an object {…}"),
        (b'{"a": NaN}', "holds NaN, Infinity or a number too large for a float: write null"),
        (b'{"a": 1e999}', "holds NaN, Infinity or a number too large for a float: write null"),
        (b'{"a": [{"b": -1e999}]}', "holds NaN, Infinity or a number too large for a float: write null"),
    ],
)
def test_a_line_that_is_no_object_says_what_it_is(line: bytes, message: str):
    assert fault(line) == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": "\xff"}', "is not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "is not UTF-8"),
        (b'{"a": "\\ud800"}', "half of a surrogate pair"),
        (b'{"a": "\\ud800\\u0041"}', "half of a surrogate pair"),
        (b'{"\\udc00": 1}', "half of a surrogate pair"),
        (b'{"a": "\x00"}', "raw control character"),
        (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", "nested more than 200 levels deep"),
        (b'{"a": ' + b'{"a":' * 100_000, "nested more than 200 levels deep"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number of too many digits"),
    ],
)
def test_hostile_lines_are_named(line: bytes, message: str):
    assert message in fault(line)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04 and more", "a zip archive"),
        ('{"a": 1}'.encode("utf-16"), "UTF-16"),
        (b"BZh91AY&SY", "a bzip2 file"),
        (gzip.compress(gzip.compress(b'{"a": 1}', mtime=0), mtime=0), "compressed twice"),
    ],
)
def test_another_format_is_named(content: bytes, what: str):
    with pytest.raises(RowsError, match=what):
        read(content)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
def test_parquet_rows_are_read_with_all_their_types(compress):
    frame = pl.DataFrame(
        {
            "text": ["é", None],
            "whole": [1, 2**62],
            "share": [0.5, None],
            "list": [["a", None], []],
            "struct": [{"x": 1}, {"x": None}],
            "yes": [True, False],
        }
    )

    assert read(compress(parquet(frame))) == [(1, frame.row(0, named=True)), (2, frame.row(1, named=True))]


def test_a_missing_number_of_pandas_is_null_and_an_infinite_one_is_bad():
    frame = pl.DataFrame(
        {"x": [float("nan"), float("inf"), 1.0, 1.0], "y": [[1.0], [1.0], [float("nan")], [float("inf")]]}
    )

    lines = read(parquet(frame))

    assert lines[0] == (1, {"x": None, "y": [1.0]})
    assert lines[1] == (2, BadLine(2, "x", "is infinite, which JSON cannot hold"))
    assert lines[2] == (3, {"x": 1.0, "y": [None]})
    assert lines[3] == (4, BadLine(4, "y", "holds an infinite number, which JSON cannot hold"))


def test_many_parquet_rows_are_read_in_order():
    frame = pl.DataFrame({"x": range(5000)})

    assert read(parquet(frame)) == [(number + 1, {"x": number}) for number in range(5000)]


def test_damaged_parquet_is_refused():
    whole = parquet(pl.DataFrame({"x": ["text"] * 1000}))

    for damaged in (whole[:-5], whole[: len(whole) // 2], b"PAR1" + b"\0" * 100 + b"PAR1"):
        with pytest.raises(RowsError, match="no whole Parquet file"):
            read(damaged)


def test_binary_columns_are_refused_by_name():
    frame = pl.DataFrame({"text": ["a"], "image": [{"bytes": b"\xff"}]})

    with pytest.raises(RowsError, match="column 'image' holds binary data"):
        read(parquet(frame))


def test_two_parquet_columns_of_one_name_are_refused():
    out = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"]), out)

    with pytest.raises(RowsError, match="two columns named 'x'"):
        read(out.getvalue())


def test_parquet_text_that_is_not_utf_8_is_a_bad_line():
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")]
    )
    out = io.BytesIO()
    pq.write_table(pa.table({"x": broken}), out)

    first, (_, second) = read(out.getvalue())

    assert first == (1, {"x": "a"})
    assert isinstance(second, BadLine)
    assert (second.line, second.field) == (2, "x")
