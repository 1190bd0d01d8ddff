"""What a pass took, told in the metadata of its result."""

from __future__ import annotations

import pytest

from premem.errors import InputError
from premem.payloads.effort import Effort, read_effort
from premem.payloads.results import RowResult, check, decode, encode

TOOK = Effort(prompt_tokens=1234, cached_tokens=567, engine_seconds=8.25, waiting_seconds=0.125, loading_seconds=0.0)


def content(**metadata: str) -> bytes:
    return encode([RowResult(row=0, skipped="empty")], produced_by={"engine": "fake", **metadata})


def test_effort_comes_back_as_it_was_told_and_beside_who_made_the_result():
    told = content(**TOOK.as_metadata())

    assert read_effort(told) == TOOK
    assert decode(told)[1]["engine"] == "fake"
    assert "prompt_tokens" not in check(told, kind="test", start=0, stop=1, samples=1)[1]


def test_a_result_of_a_worker_that_tells_nothing_has_no_effort():
    assert read_effort(content()) is None


def test_what_grades_a_result_anew_does_not_take_its_effort_over():
    rows, produced_by = decode(content(**TOOK.as_metadata()))

    assert read_effort(encode(rows, produced_by=produced_by)) is None


@pytest.mark.parametrize("number", ["many", "-1", "nan", "inf", "1e16", ""])
def test_a_number_that_is_none_is_named(number: str):
    with pytest.raises(InputError, match="cached_tokens in the result's metadata must be a number of at least 0"):
        read_effort(content(prompt_tokens="7", cached_tokens=number))


def test_what_is_no_parquet_is_refused():
    with pytest.raises(InputError, match="no Parquet file"):
        read_effort(b"PAR1")
