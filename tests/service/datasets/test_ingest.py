from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from premem.errors import GraderError, RowsError
from premem.records import Grade
from premem.wire.bodies import GraderChoice
from premem.wire.datasets import Columns
from premem_service.datasets import rows as rows_module
from premem_service.datasets.ingest import Ingested, ingest
from premem_service.datasets.rows import Latex, mapping, read
from premem_service.datasets.shards import frame, rows_at, tables
from premem_service.storage.store import Store

TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1).filter(
    lambda text: not text.isspace()
)
ANSWERS = st.none() | TEXT | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
EXTRA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"question": TEXT, "trace": TEXT, "final_answer": ANSWERS}, optional={"extra": EXTRA, "é \0 \ud7ff": EXTRA}
    ),
    min_size=1,
    max_size=20,
)


def right(pairs: Iterable[tuple[str, str]], grader: GraderChoice) -> Iterator[Grade]:
    for _ in pairs:
        yield Grade("right")


def stored(store: Store, blocks: Iterable[bytes], grade_all=right) -> Ingested:
    return ingest(
        blocks,
        store=store,
        asked=Columns(),
        grader=GraderChoice(),
        grade_all=grade_all,
        max_ungradable=0.0,
        max_row_bytes=2**20,
    )


@given(rows=ROWS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_any_rows_come_back_with_all_their_columns(rows: list[dict[str, object]], tmp_path: Path):
    store = Store(tmp_path)

    ingested = stored(store, [json.dumps(row).encode() + b"\n" for row in rows])

    (table,) = tables(store, ingested.shards, 0, len(rows))
    back = frame(table)
    assert [json.loads(columns) for columns in back["columns"]] == rows
    assert [list(json.loads(columns)) for columns in back["columns"]] == [list(row) for row in rows]
    assert back["question"].to_list() == [row["question"] for row in rows]
    assert back["trace"].to_list() == [row["trace"] for row in rows]
    assert back["row"].to_list() == list(range(len(rows)))


@given(rows=ROWS)
def test_a_batch_is_read_as_its_rows_one_by_one(rows: list[dict[str, object]]):
    columns = mapping(Columns(), list(rows[0]))
    batch = (range(1, len(rows) + 1), rows)

    at_once = rows_module._read_sound(batch, columns, 5, 2**20, Latex())

    one_by_one = rows_module._read_each(batch, columns, 5, 2**20, Latex())
    assert at_once is None or at_once == one_by_one
    assert read(batch, columns, position=5, max_row_bytes=2**20) == one_by_one


def test_a_batch_of_sound_strings_is_read_at_once():
    rows = [{"question": "q", "trace": "t", "final_answer": "a", "id": number} for number in range(3)]

    assert (
        rows_module._read_sound((range(1, 4), rows), mapping(Columns(), list(rows[0])), 0, 2**20, Latex()) is not None
    )


def test_the_rows_between_any_two_positions_are_found_in_their_groups(tmp_path: Path):
    store = Store(tmp_path)
    lines = [f'{{"question": "{n}", "answer": "{n}"}}\n'.encode() for n in range(40_000)]
    shards = stored(store, lines).shards

    for start, stop in ((0, 1), (1023, 1025), (16_383, 16_385), (39_999, 40_000), (5, 33_000)):
        parts = [frame(table) for table in tables(store, shards, start, stop)]
        assert [row for part in parts for row in part["row"]] == list(range(start, stop))
        assert max(part.height for part in parts) <= 1024
    assert rows_at(store, shards, [39_999, 0, 16_384])["question"].to_list() == ["39999", "0", "16384"]


def test_large_rows_make_small_groups_and_shards(tmp_path: Path):
    store = Store(tmp_path)
    line = b'{"question": "q", "answer": "' + b"x" * 500_000 + b'"}\n'

    shards = stored(store, (line for _ in range(100))).shards

    assert len(shards) > 2
    assert [shard.stop for shard in shards[:-1]] == [shard.start for shard in shards[1:]]
    assert all(table.nbytes < 20 * 2**20 for table in tables(store, shards, 0, 100))
    assert sum(table.num_rows for table in tables(store, shards, 0, 100)) == 100


@pytest.mark.parametrize("error", [ConnectionError("the client went away"), KeyboardInterrupt()])
def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path, error: BaseException):
    store = Store(tmp_path)

    def blocks() -> Iterator[bytes]:
        yield b'{"question": "q", "answer": "a"}\n' * 50_000
        assert list(store.list())
        raise error

    with pytest.raises(type(error)):
        stored(store, blocks())

    assert list(store.list()) == []


def test_a_grader_that_fails_leaves_nothing(tmp_path: Path):
    store = Store(tmp_path)

    def fail(pairs: Iterable[tuple[str, str]], grader: GraderChoice) -> Iterator[Grade]:
        for count, _ in enumerate(pairs):
            if count == 40_000:
                raise GraderError("the grader broke")
            yield Grade("right")

    with pytest.raises(GraderError):
        stored(store, [b'{"question": "q", "answer": "a"}\n' * 50_000], fail)

    assert list(store.list()) == []


def test_nothing_is_graded_after_a_bad_line(tmp_path: Path):
    graded = []

    def count(pairs: Iterable[tuple[str, str]], grader: GraderChoice) -> Iterator[Grade]:
        for pair in pairs:
            graded.append(pair)
            yield Grade("right")

    with pytest.raises(RowsError, match="1 line cannot be taken"):
        stored(Store(tmp_path), [b"nonsense\n" + b'{"question": "q", "answer": "a"}\n' * 5000], count)

    assert graded == []


def test_every_verdict_but_right_is_explained(tmp_path: Path):
    grades = [Grade("wrong", "7"), Grade("no_answer"), Grade("timeout"), Grade("right")]

    with pytest.raises(RowsError) as caught:
        stored(
            Store(tmp_path),
            [b'{"question": "q", "answer": "a"}\n' * 4],
            lambda pairs, _grader: [g for g, _ in zip(grades, pairs, strict=False)],
        )

    assert [(line.line, line.message) for line in caught.value.lines] == [
        (1, "the reference's own answer does not grade as right (final answer found: '7')"),
        (2, "the reference holds no final answer that this grader finds"),
        (3, "grading the reference against itself ran out of time"),
    ]
