"""Rows of Python as JSON: what pandas, NumPy and `datasets` put into them becomes what a Parquet file of them would hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic_core import to_jsonable_python

from premem.errors import InputError

DEEPEST = 100
_PLAIN = (str, int, type(None))


def json_row(row: Mapping[str, Any]) -> bytes:
    """One line without its end. Raises InputError, naming the column that JSON cannot hold: ", column: why".

    NaN, NaT and NA, the missing values of pandas, are null; dates and times are written in ISO 8601; NumPy's numbers and
    arrays are numbers and lists.
    """
    plain = {}
    for name, value in row.items():
        if not isinstance(name, str):
            raise InputError(f": a column is named {name!r}; names must be strings")
        try:
            plain[name] = _plain(value)
        except ValueError as error:
            raise InputError(f", {name}: {error}") from None
    try:
        return json.dumps(plain, allow_nan=False).encode()
    except ValueError as error:  # an integer of too many digits
        raise InputError(f" cannot be written as JSON: {error}") from error


def _plain(value: Any, depth: int = 0) -> Any:
    """Raises ValueError, saying what to do."""
    if depth > DEEPEST:
        raise ValueError(f"is nested more than {DEEPEST} levels deep")
    if isinstance(value, float):
        if math.isinf(value):
            raise ValueError("is infinite, which JSON cannot hold: write None or a number")
        return None if math.isnan(value) else float(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise ValueError("holds a dict whose keys are not all strings: make them strings")
        return {name: _plain(one, depth + 1) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, depth + 1) for one in value]
    if type(value).__name__ in ("NaTType", "NAType"):
        return None
    if isinstance(value, datetime | date | time | timedelta | Decimal | UUID):
        return to_jsonable_python(value)
    return _of_numpy(value, depth)


def _of_numpy(value: Any, depth: int) -> Any:
    """Of anything that says itself what it is in plain Python: arrays, scalars, tensors, series."""
    if type(value).__module__.partition(".")[0] == "numpy" and getattr(value, "dtype", None) is not None:
        if value.dtype.kind in "mM":
            return _none_for_nat(value.astype(str).tolist())
        if value.dtype.kind in "biufUO":
            return _plain(value.tolist(), depth + 1)
    for way in ("tolist", "to_list"):
        if callable(make := getattr(value, way, None)):
            return _plain(make(), depth + 1)
    kind = type(value).__name__
    what = "binary data" if isinstance(value, bytes | bytearray | memoryview) else kind
    raise ValueError(f"holds {what}, which JSON cannot hold: leave the column out, or turn it into text or numbers")


def _none_for_nat(times: Any) -> Any:
    if isinstance(times, list):
        return [_none_for_nat(one) for one in times]
    return None if times == "NaT" else times
