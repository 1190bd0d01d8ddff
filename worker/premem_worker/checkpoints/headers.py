"""Headers of weight files: which tensors a checkpoint holds, of which shapes and types, read without loading any."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from premem.errors import CheckpointError

Dtype = Literal["float32", "bfloat16", "float16"]
INDEX = "model.safetensors.index.json"
SAVED_IN: dict[str, Dtype] = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
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


def weight_files(folder: Path) -> list[Path]:
    """The safetensors that hold the model, sorted. Raises CheckpointError where there are none or too many."""
    index, single = folder / INDEX, folder / "model.safetensors"
    found = sorted(folder.glob("*.safetensors"))
    if index.is_file():
        named = sorted(set(_weight_map(index).values()))
        if single in found and single.name not in named:
            raise CheckpointError(f"{folder} has both model.safetensors and {INDEX}: remove the one that is stale")
        return [folder / name for name in named]
    if not found:
        raise CheckpointError(_why_no_weights(folder))
    if found != [single]:
        # vLLM would read every one of them into the model.
        others = ", ".join(path.name for path in found if path != single)
        raise CheckpointError(
            f"{folder} has {others} and no {INDEX}: a model in one file is called model.safetensors, "
            f"one in several needs its {INDEX}; move other safetensors elsewhere"
        )
    return found


def held_tensors(path: Path) -> list[Tensor]:
    """What a safetensors file says that it holds. Raises CheckpointError where the file is damaged or no safetensors."""
    return _header(path)


def weights_digest(folder: Path) -> str:
    """SHA-256 over the bytes of the weights, to tell equal weights from a swap that did nothing."""
    digest = hashlib.sha256()
    for path in weight_files(folder):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def read_headers(folder: Path) -> dict[Path, list[Tensor]]:
    files = weight_files(folder)
    headers = {path: _header(path) for path in files}
    counts = Counter(tensor.name for tensors in headers.values() for tensor in tensors)
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise CheckpointError(f"{folder} holds {twice[0]!r} in more than one file")
    if (folder / INDEX).is_file():
        held = {path.name: {tensor.name for tensor in tensors} for path, tensors in headers.items()}
        for name, shard in _weight_map(folder / INDEX).items():
            if name not in held[shard]:
                raise CheckpointError(f"{folder / INDEX} says that {name!r} is in {shard}, which does not hold it")
    if not counts:
        raise CheckpointError(f"{folder} holds no weights: its safetensors are empty")
    return headers


def _header(path: Path) -> list[Tensor]:
    """The tensors that a safetensors file says it holds, after comparing that with its size."""
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


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map")
    for shard in weight_map.values():
        if not isinstance(shard, str) or not re.fullmatch(r"[^/\\]+\.safetensors", shard):
            raise CheckpointError(f"{index} names {shard!r}, which is no safetensors file of its folder")
    return weight_map


def _why_no_weights(folder: Path) -> str:
    others = [path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf") for path in folder.glob(pattern)]
    weights = sorted(name for name in others if name != "training_args.bin" and not name.startswith("optimizer"))
    if weights:
        return (
            f"{folder} has only {', '.join(weights[:3])}: premem loads safetensors only "
            "(load it and save it again with save_pretrained)"
        )
    return f"{folder} has no weights: there is no model.safetensors and no {INDEX}"


def read_json(path: Path, otherwise: str = "it is missing") -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent} has no {path.name}: {otherwise}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return content
