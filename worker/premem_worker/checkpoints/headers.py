"""What safetensors files say that they hold, compared with how long they are. No tensor is read here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from premem.errors import CheckpointError

INDEX = "model.safetensors.index.json"
_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32,
    "U16": 16, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "C64": 64, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
_HEADER_LIMIT = 100_000_000
"""Bytes; the limit of the safetensors library."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a safetensors header."""

    name: str
    dtype: str
    """As safetensors calls it: F32, BF16, …"""
    shape: tuple[int, ...]


def held_tensors(path: Path) -> list[Tensor]:
    """What a safetensors file says that it holds. Raises CheckpointError where the file is damaged or no safetensors."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _HEADER_LIMIT):
                raise CheckpointError(f"{path} is truncated or no safetensors: {size:,} bytes do not hold its header")
            header = json.loads(file.read(length))
    except FileNotFoundError:
        reason = f"{INDEX} names it" if (path.parent / INDEX).is_file() else "it is a link to nothing"
        raise CheckpointError(f"{path} is missing: {reason}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is no safetensors: its header is no JSON ({error})") from error
    try:
        tensors = [_entry(name, entry) for name, entry in header.items() if name != "__metadata__"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is no safetensors: its header lacks a tensor's dtype, shape or place") from error
    _check_data(path, tensors, size - 8 - length)
    return [tensor for tensor, _, _ in tensors]


def _entry(name: str, entry: Mapping[str, Any]) -> tuple[Tensor, int, int]:
    begin, end = entry["data_offsets"]
    return Tensor(name, str(entry["dtype"]), tuple(map(int, entry["shape"]))), int(begin), int(end)


def _check_data(path: Path, tensors: Sequence[tuple[Tensor, int, int]], held: int) -> None:
    """The tensors must lie end to end and fill the file."""
    reached = 0
    for tensor, begin, end in sorted(tensors, key=lambda entry: entry[1:]):
        bits = _BITS.get(tensor.dtype)
        if begin != reached or (bits is not None and (end - begin) * 8 != math.prod(tensor.shape) * bits):
            raise CheckpointError(f"{path} is damaged: {tensor.name!r} does not lie where its shape says")
        reached = end
    if held < reached:
        raise CheckpointError(f"{path} is truncated: it holds {held:,} of {reached:,} bytes of weights")
    if held > reached:
        raise CheckpointError(f"{path} is damaged: {held - reached:,} bytes follow its last tensor")
