"""Rows of Python, as they are sent: what pandas, NumPy and `datasets` put into them."""

from __future__ import annotations

import json
from collections import OrderedDict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from premem.client.python_rows import json_row
from premem.client.upload import Upload
from premem.errors import InputError

pandas = pytest.importorskip("pandas")


def sent(rows: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in b"".join(Upload(rows).blocks()).splitlines()]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (float("nan"), None),
        (np.float64("nan"), None),
        (np.int64(7), 7),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([0.5, float("nan")]), [0.5, None]),
        (np.array([{"role": "user"}], dtype=object), [{"role": "user"}]),
        (np.str_("text"), "text"),
        (np.datetime64("2024-03-01T10:00"), "2024-03-01T10:00"),
        (np.datetime64("NaT"), None),
        (pandas.NaT, None),
        (pandas.NA, None),
        (pandas.Timestamp("2024-03-01"), "2024-03-01T00:00:00"),
        (datetime(2024, 3, 1, tzinfo=UTC), "2024-03-01T00:00:00Z"),
        (date(2024, 3, 1), "2024-03-01"),
        (timedelta(days=2), "P2D"),
        (Decimal("1.50"), "1.50"),
        ((1, 2), [1, 2]),
        (OrderedDict(a=np.int8(1)), {"a": 1}),
        (10**30, 10**30),
    ],
)
def test_a_value_becomes_what_a_file_of_it_would_hold(value: Any, told: Any):
    assert sent([{"question": "1?", "x": value}]) == [{"question": "1?", "x": told}]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"x": float("inf")}, "row 2, x: is infinite"),
        ({"x": b"bytes"}, "row 2, x: holds binary data"),
        ({"x": [{"y": {1}}]}, "row 2, x: holds set, which JSON cannot hold: leave the column out"),
        ({"x": {1: 2}}, "row 2, x: holds a dict whose keys are not all strings"),
        ({1: 2}, "row 2: a column is named 1"),
        ({"x": np.array([1j])}, "row 2, x: holds complex"),
    ],
)
def test_what_json_cannot_hold_is_named_with_its_row_and_column(row: Any, message: str):
    with pytest.raises(InputError) as caught:
        sent([{"x": 1}, row])

    assert str(caught.value).startswith(message)


def test_what_holds_itself_is_refused():
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(InputError, match="nested more than 100 levels deep"):
        json_row({"x": endless})


def test_a_table_is_told_how_to_give_its_rows():
    with pytest.raises(InputError, match=r"send the table's to_dict\('records'\)"):
        sent(pandas.DataFrame({"question": ["1?"]}))
