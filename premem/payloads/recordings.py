"""A recorded run on its way to a service: a Parquet file, one row per example, with what else is known in its metadata.

Shapes: C checkpoints in the order in which they were saved, E examples that were trained on.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from premem.errors import InputError
from premem.extras import brought_by
from premem.forecasting.runs import Floats, ScoredRun
from premem.wire.calibrations import RecordedCheckpoint, RecordedRun
from premem.wire.compatibility import VERSION

with brought_by("frames"):
    import polars as pl

COLUMNS: dict[str, pl.DataType] = {
    "row": pl.Int64(),  # position in the data set
    "accuracy": pl.List(pl.Float64()),  # per checkpoint: the share of right answers
    "perplexity": pl.List(pl.Float64()),  # per checkpoint
}
SCHEMA = pl.Schema(COLUMNS)
METADATA = "premem"
"""Key of the file's metadata that holds a RecordedRun as JSON."""


@dataclass(frozen=True, slots=True)
class Recording:
    about: RecordedRun
    row_E: NDArray[np.int64]
    accuracy_CE: Floats
    perplexity_CE: Floats


def described(run: ScoredRun, *, dataset: str, model: str, **known: object) -> RecordedRun:
    """What a run says of itself, for the data set that holds its questions. `known` are RecordedRun's other fields.

    Raises InputError, naming the field that cannot be taken.
    """
    return _about(
        {
            "name": run.name,
            "dataset": dataset,
            "model": model,
            "samples": run.samples,
            "learning_rate": run.learning_rate,
            "checkpoints": [
                RecordedCheckpoint(
                    name=name,
                    test_accuracy=None if np.isnan(test) else float(test),
                    test_examples=None if np.isnan(test) else run.test_examples,
                )
                for name, test in zip(run.checkpoints, run.test_accuracy_C, strict=True)
            ],
            **known,
        },
        where=run.name,
    )


def _about(fields: dict[str, Any], *, where: str) -> RecordedRun:
    try:
        return RecordedRun.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "extra_forbidden":
            first["msg"] = f"premem {VERSION} does not know this field: upgrade it, or leave the field out"
        raise InputError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def encode(run: ScoredRun, about: RecordedRun) -> bytes:
    """The Parquet file of a run."""
    frame = pl.DataFrame(
        {
            "row": np.arange(run.accuracy_CE.shape[1]) if run.row_E is None else run.row_E,
            "accuracy": run.accuracy_CE.T.tolist(),
            "perplexity": run.perplexity_CE.T.tolist(),
        },
        schema=SCHEMA,
    )
    out = io.BytesIO()
    frame.write_parquet(out, compression="zstd", metadata={METADATA: about.model_dump_json()})
    return out.getvalue()


def decode(content: bytes) -> Recording:
    """The run, after making sure that its numbers can be. Raises InputError, naming the first that cannot."""
    try:
        frame = pl.read_parquet(io.BytesIO(content))
        metadata = pl.read_parquet_metadata(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"the recorded run is no Parquet file: {error}") from error
    if METADATA not in metadata:
        raise InputError(f"the file's metadata must hold {METADATA!r}: the run's names and numbers, as JSON")
    try:
        known = json.loads(metadata[METADATA])
    except ValueError as error:
        raise InputError(f"{METADATA} in the file's metadata is no JSON: {error}") from error
    if not isinstance(known, dict):
        raise InputError(f"{METADATA} in the file's metadata must be a JSON object")
    about = _about(known, where=f"{METADATA} in the file's metadata")
    if frame.schema != SCHEMA:
        raise InputError(f"the recorded run's columns must be {dict(SCHEMA)}, not {dict(frame.schema)}")
    if frame.height == 0:
        raise InputError("the recorded run holds no example")
    if frame["row"].null_count() or frame["row"].is_duplicated().any() or int(frame["row"].min() or 0) < 0:  # type: ignore[arg-type]
        raise InputError("row must name each example once, by its position in the data set, from 0")
    frame = frame.sort("row")
    names = [checkpoint.name for checkpoint in about.checkpoints]
    accuracy_CE = _per_checkpoint(frame, "accuracy", names)
    perplexity_CE = _per_checkpoint(frame, "perplexity", names)
    _check_numbers(about, frame["row"].to_numpy(), names, accuracy_CE, perplexity_CE)
    return Recording(about, frame["row"].to_numpy(), accuracy_CE, perplexity_CE)


def _per_checkpoint(frame: pl.DataFrame, column: str, names: Sequence[str]) -> Floats:
    lengths = frame[column].list.len()
    if frame[column].null_count() or not (lengths == len(names)).all():
        raise InputError(f"{column} needs {len(names)} numbers in every row, one per checkpoint")
    values: Floats = frame[column].explode().fill_null(float("nan")).to_numpy().reshape(frame.height, len(names)).T
    return values


def _check_numbers(
    about: RecordedRun, row_E: NDArray[np.int64], names: Sequence[str], accuracy_CE: Floats, perplexity_CE: Floats
) -> None:
    right_CE = accuracy_CE * about.samples
    with np.errstate(invalid="ignore"):
        share_CE = (accuracy_CE >= 0) & (accuracy_CE <= 1) & (np.abs(right_CE - np.rint(right_CE)) < 1e-6)
        possible_CE = np.isfinite(perplexity_CE) & (perplexity_CE >= 1.0)
    for wrong_CE, values_CE, what in (
        (~share_CE, accuracy_CE, f"accuracy {{}} is no share of {about.samples} answers"),
        (~possible_CE, perplexity_CE, "perplexity {} is not finite and at least 1"),
    ):
        if wrong_CE.any():
            c, e = np.argwhere(wrong_CE)[0]
            raise InputError(f"row {row_E[e]} at {names[c]}: {what.format(values_CE[c, e])}")
