"""Effort: what a pass took, as part of the metadata of a result."""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass, fields

import polars as pl

from premem.errors import InputError

MOST = 1e15
"""The largest valid value; no pass takes more of anything."""


@dataclass(frozen=True, slots=True)
class Effort:
    """The effort of one task. Its fields are keys of the metadata."""

    prompt_tokens: int = 0
    """Tokens of all requests, including scored references, counted as often as they were requested."""
    cached_tokens: int = 0
    """Those of them that the engine found in its cache."""
    engine_seconds: float = 0.0
    """Seconds in which the engine had work."""
    waiting_seconds: float = 0.0
    """Seconds of waiting for grades: while the engine had no work until they came, and from its last answer to the last grade."""
    loading_seconds: float = 0.0
    """Seconds to start the engine or change its weights. 0 if it had the checkpoint already."""
    cache_bytes: int = 0
    """Bytes that the engine reserved for keys and values. 0: unknown."""

    def as_metadata(self) -> dict[str, str]:
        return {name: f"{value:.12g}" for name, value in asdict(self).items()}


KEYS = tuple(field.name for field in fields(Effort))


def read_effort(content: bytes) -> Effort | None:
    """The effort in the metadata of a result. None: there is none. Raises InputError."""
    try:
        metadata = pl.read_parquet_metadata(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"the result is no Parquet file: {error}") from error
    numbers = {key: _number(key, metadata[key]) for key in KEYS if key in metadata}
    if not numbers:
        return None
    counted = {key: int(value) if key.endswith(("tokens", "bytes")) else value for key, value in numbers.items()}
    return Effort(**counted)  # type: ignore[arg-type]


def _number(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= MOST:
        raise InputError(f"{key} in the result's metadata must be a number of at least 0, not {text[:50]!r}")
    return value
