"""Columns for rows that are JSON objects: the narrowest Arrow type that holds every value, JSON text where none does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pydantic_core import to_json

_LARGEST = 2**63
_EXACT = 2**53
"""Larger integers change when they become floats."""
_NAMES: dict[type, str] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    list: "list",
    dict: "object",
}
_PLAIN = frozenset({"bool", "float", "str"})
"""Of these a second value tells nothing new."""


@dataclass(slots=True)
class Kind:
    """What the values of one place have been so far."""

    name: str = "null"
    """null, bool, int, float, str, list, object, or json: kinds that do not go together."""
    items: Kind | None = None
    fields: dict[str, Kind] = field(default_factory=dict)
    wide: bool = False
    """Holds integers that are no exact floats."""

    def see(self, value: Any) -> None:
        """Widen to hold one more value."""
        seen = _NAMES.get(type(value), "json")
        if (seen == self.name and seen in _PLAIN) or seen == "null" or self.name == "json":
            return
        if seen == "int" and not -_EXACT <= value <= _EXACT:
            self.wide = True
            if not -_LARGEST <= value < _LARGEST:
                seen = "json"
        if self.name in ("null", seen):
            self.name = seen
        elif {self.name, seen} == {"int", "float"}:
            self.name = "float"
        else:
            self.name = "json"
        if self.name == "float" and self.wide:
            self.name = "json"
        elif isinstance(value, list) and self.name == "list":
            self.items = self.items or Kind()
            for item in value:
                self.items.see(item)
        elif isinstance(value, dict) and self.name == "object":
            for key, inner in value.items():
                self.fields.setdefault(key, Kind()).see(inner)

    @property
    def type(self) -> pa.DataType:
        if self.name == "list":
            assert self.items is not None  # noqa: S101  (seen with it)
            return pa.list_(self.items.type)
        if self.name == "object" and self.fields:
            return pa.struct([pa.field(key, kind.type) for key, kind in self.fields.items()])
        return {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}.get(self.name, pa.string())

    def fit(self, value: Any) -> Any:
        """The value as this kind's type takes it."""
        if value is None or self.name in ("str", "int", "bool"):
            return value
        if self.name == "json" or (self.name == "object" and not self.fields):
            return to_json(value).decode()
        if self.name == "list" and self.items is not None:
            return [self.items.fit(item) for item in value]
        if self.name == "object":
            return {key: self.fields[key].fit(inner) for key, inner in value.items()}
        return float(value) if self.name == "float" else value


def see_all(rows: Iterable[Mapping[str, Any]]) -> dict[str, Kind]:
    """The kind of every key, in the order in which they appear."""
    kinds: dict[str, Kind] = {}
    for row in rows:
        for key, value in row.items():
            kinds.setdefault(key, Kind()).see(value)
    return kinds


def table(rows: list[dict[str, Any]], kinds: Mapping[str, Kind]) -> pa.Table:
    """Rows that `kinds` has seen."""
    arrays = {key: pa.array([kind.fit(row.get(key)) for row in rows], kind.type) for key, kind in kinds.items()}
    return pa.table(arrays)
