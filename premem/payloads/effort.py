"""What a pass took of its engine, as it stands in the metadata of a result beside who made it."""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass, fields

import polars as pl

from premem.errors import InputError

MOST = 1e15
"""No pass takes more of anything; a number beyond it is none."""


@dataclass(frozen=True, slots=True)
class Effort:
    """Of one task. Its fields are the keys of the metadata."""

    prompt_tokens: int = 0
    """Of all prompts that were asked, references that were scored included, each as often as it was asked."""
    cached_tokens: int = 0
    """Of these, tokens that the engine had read before and did not read again."""
    engine_seconds: float = 0.0
    """While the engine had something to answer."""
    waiting_seconds: float = 0.0
    """For grades: while it had nothing to do until they said what else to draw, and from its last answer until the last one."""
    loading_seconds: float = 0.0
    """To start the engine or change its weights; 0 where it held the checkpoint already."""
    cache_bytes: int = 0
    """Of memory that the engine set aside for keys and values; 0: it tells none."""

    def as_metadata(self) -> dict[str, str]:
        return {name: f"{value:.12g}" for name, value in asdict(self).items()}


KEYS = tuple(field.name for field in fields(Effort))


def read_effort(content: bytes) -> Effort | None:
    """What the metadata of a result tells; None where it tells nothing. Raises InputError."""
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
