"""Uploads that are no lines of JSON: arrays, Arrow, CSV; and the column names that other projects use."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from premem.client.upload import Upload
from premem.errors import BadLine, RowsError
from premem.wire.datasets import Columns
from premem_service.datasets import formats
from premem_service.datasets.formats import batches
from premem_service.datasets.rows import mapping
from premem_service.datasets.rows import read as read_examples
from tests.service.datasets.reading_rows import read, read_csv, temporary_file
from tests.service.datasets.uploading import refused, upload

ROWS: list[dict[str, Any]] = [{"question": f"{n} + 1?", "answer": f"#### {n + 1}"} for n in range(600)]


def arrow(rows: list[dict[str, Any]], *, stream: bool) -> bytes:
    table = pa.Table.from_pylist(rows)
    out = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def example(row: dict[str, Any]) -> tuple[str, str]:
    """Question and trace, by the mapping that is guessed."""
    examples, bad = read_examples(([1], [row]), mapping(Columns(), list(row)), position=0, max_row_bytes=2**20)
    assert bad == []
    return examples.questions[0], examples.traces[0]


@pytest.mark.parametrize("content", [b"[]", b"  [ ]\n"])
def test_an_empty_array_has_no_rows(content: bytes):
    assert read(content) == []


def test_the_objects_of_an_array_are_rows():
    assert read(json.dumps(ROWS, indent=1).encode(), size=1000) == list(enumerate(ROWS, start=1))


def test_what_is_no_object_in_an_array_is_named():
    assert read(b'[{"a": 1}, 7]') == [(1, {"a": 1}), (2, BadLine(2, None, "is a number, not an object {…}"))]


def test_an_array_that_breaks_off_is_refused():
    with pytest.raises(RowsError, match="as a JSON array does, but is none: EOF"):
        read(b'[{"a": 1}, {"a"')


def test_an_array_too_long_to_be_read_whole_says_how_to_send_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(formats, "ARRAY_BYTES", 100)

    with pytest.raises(RowsError, match="one object per line"):
        read(json.dumps(ROWS).encode())


@pytest.mark.parametrize("stream", [False, True], ids=["file", "stream"])
def test_arrow_rows_are_read_in_order(stream: bool):
    assert read(gzip.compress(arrow(ROWS, stream=stream))) == list(enumerate(ROWS, start=1))


@pytest.mark.parametrize("stream", [False, True], ids=["file", "stream"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_damaged_arrow_is_refused(stream: bool, share: float):
    content = arrow(ROWS, stream=stream)

    with pytest.raises(RowsError, match="no whole Arrow"):
        read(content[: int(len(content) * share)])


def test_arrow_text_whose_offsets_lead_astray_is_refused():
    astray = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\xff\xff\xff\x7f\2\0\0\0"), pa.py_buffer(b"ab")]
    )
    out = io.BytesIO()
    with pa.ipc.new_file(out, pa.schema([("x", pa.string())])) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([astray], names=["x"]))

    with pytest.raises(RowsError, match="no whole Arrow file"):
        read(out.getvalue())


def test_cells_are_texts_under_the_names_of_the_first_line():
    content = '\ufeffid,question,answer\n007,"a, ""b""\n?",\n\n8,c,d\n'.encode()

    assert read_csv(content) == [
        (2, {"id": "007", "question": 'a, "b"\n?', "answer": None}),
        (5, {"id": "8", "question": "c", "answer": "d"}),
    ]


def test_a_line_with_too_many_cells_is_named():
    assert read_csv(b"a,b\n1,2\n1,2,3\n")[1] == (3, BadLine(3, None, "has 3 cells, the first line 2"))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"a,a\n1,2\n", "two columns named 'a'"),
        (b"a,\n1,2\n", "one has no name"),
        (b'a,b\n1,2\n1,"2\n', "after line 2: unexpected end of data"),
        (b"a,b\n1,2\n1,\xff\n", "cannot be read as CSV after line"),
    ],
)
def test_what_is_no_csv_is_refused(content: bytes, fault: str):
    with pytest.raises(RowsError, match=fault):
        read_csv(content)


@pytest.mark.parametrize("endless", ["a," * 1000, '"a\n",' * 1000], ids=["line", "quoted lines"])
def test_a_row_without_end_is_refused_before_it_is_gathered(endless: str):
    read_blocks = 0

    def blocks() -> Iterator[bytes]:
        nonlocal read_blocks
        yield b"a,b\n1,2\n"
        for _ in range(100_000):
            read_blocks += 1
            yield endless.encode()

    with pytest.raises(RowsError, match="row after line 2 is longer than 10,000 bytes"):
        list(batches(blocks(), max_row_bytes=10_000, temporary_file=temporary_file, as_csv=True))
    assert read_blocks < 2000


def test_a_file_of_that_ending_is_sent_as_csv(tmp_path: Path):
    for name in ("rows.csv", "rows.CSV.gz", "rows.jsonl"):
        (tmp_path / name).touch()

    assert Upload(tmp_path / "rows.csv").content_type == "text/csv"
    assert Upload(tmp_path / "rows.CSV.gz").content_type == "text/csv"
    assert Upload(tmp_path / "rows.jsonl").content_type != "text/csv"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2 + 3?", "completion": "#### 5"},
        {"instruction": "2 + 3?", "input": "", "output": "#### 5"},
        {"instruction": "2 + 3?", "response": "#### 5"},
        {"conversations": [{"from": "human", "value": "2 + 3?"}, {"from": "gpt", "value": "#### 5"}]},
        {"messages": [{"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "#### 5"}]},
    ],
    ids=["trl", "alpaca", "instruction", "sharegpt", "messages"],
)
def test_columns_of_other_projects_are_known(row: dict[str, Any]):
    assert example(row) == ("2 + 3?", "#### 5")


def test_an_input_goes_on_from_its_instruction():
    row = {"instruction": "Add.", "input": "2 and 3", "output": "#### 5"}

    assert example(row) == ("Add.\n\n2 and 3", "#### 5")


def test_csv_says_so_by_its_content_type(client: TestClient):
    content = "question,answer\n2 + 3?,#### 5\n"
    answer = client.post("/v1/datasets", content=content, headers={"Content-Type": "text/csv; charset=utf-8"})

    assert answer.status_code == 201, answer.text
    assert answer.json()["rows"] == 1
    assert answer.json()["id"] == upload(client, b'{"question": "2 + 3?", "answer": "#### 5"}\n')["id"]


def test_csv_that_does_not_say_so_is_bad_lines(client: TestClient):
    assert "line 1" in refused(client, b"question,answer\n2 + 3?,#### 5\n")["detail"]
