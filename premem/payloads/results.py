"""What a worker hands in for one task: a Parquet file, one row per example, with who made it in its metadata."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import polars as pl

from premem.errors import InputError
from premem.method.planning import Goal
from premem.payloads import effort
from premem.records import Answer, Grade, Verdict
from premem.wire.tasks import DrawPlan

COLUMNS: dict[str, pl.DataType] = {
    "row": pl.Int64(),  # position in the data set
    "skipped": pl.String(),  # why there is no score; null where there is one
    "perplexity": pl.Float64(),  # of the target given the prompt; null for test rows and draws
    "target_tokens": pl.Int64(),
    "span_shifted": pl.Boolean(),  # prompt and target merged into a token where they meet
    "texts": pl.List(pl.String()),
    "verdicts": pl.List(pl.String()),
    "extracted": pl.List(pl.String()),
    "tokens": pl.List(pl.Int64()),
    "finished": pl.List(pl.Boolean()),
    "similarities": pl.List(pl.Float64()),  # of each answer to the reference trace; none for test rows
}
SCHEMA = pl.Schema(COLUMNS)
PRODUCED_BY = ("engine", "versions", "dtype", "tokenizer", "device", "model")
"""Keys of the metadata: engine's name, versions of the libraries, dtype, tokenizer fingerprint, cpu or the GPU's name,
and the model's family (architecture and number of parameters)."""

WEIGHTS = "weights"
"""Key of the metadata: fingerprint of the checkpoint's weights. Beside PRODUCED_BY, since each checkpoint has its own."""

GROUP_ROWS = 256


@dataclass(slots=True)
class RowResult:
    """One example at one checkpoint."""

    row: int
    skipped: str | None = None
    perplexity: float | None = None
    target_tokens: int | None = None
    span_shifted: bool | None = None
    answers: list[Answer] = field(default_factory=list)
    similarities: list[float] = field(default_factory=list)
    """Of each answer to the reference trace, as premem.method.copying measures it; empty for test rows."""

    def as_record(self) -> dict[str, object]:
        return {
            "row": self.row,
            "skipped": self.skipped,
            "perplexity": self.perplexity,
            "target_tokens": self.target_tokens,
            "span_shifted": self.span_shifted,
            "texts": [answer.text for answer in self.answers],
            "verdicts": [answer.grade.verdict for answer in self.answers],
            "extracted": [answer.grade.extracted for answer in self.answers],
            "tokens": [answer.tokens for answer in self.answers],
            "finished": [answer.finished for answer in self.answers],
            "similarities": self.similarities,
        }


def encode(rows: Sequence[RowResult], *, produced_by: Mapping[str, str]) -> bytes:
    """The Parquet file of one task's results, sorted by row."""
    ordered = sorted(rows, key=lambda result: result.row)
    frame = pl.DataFrame([result.as_record() for result in ordered], schema=SCHEMA)
    out = io.BytesIO()
    # Small row groups: one example's answers are read without its neighbours'.
    frame.write_parquet(
        out,
        compression="zstd",
        row_group_size=GROUP_ROWS,
        metadata=metadata(produced_by),
    )
    return out.getvalue()


def metadata(produced_by: Mapping[str, str]) -> dict[str, str]:
    """Who made a result, and what it took where that is known (`premem.payloads.effort`)."""
    took = {key: produced_by[key] for key in effort.KEYS if key in produced_by}
    return {key: produced_by.get(key, "") for key in (*PRODUCED_BY, WEIGHTS)} | took


def decode(content: bytes) -> tuple[list[RowResult], dict[str, str]]:
    """What `encode` was given. Raises InputError where it is something else."""
    frame, produced_by = read(content, SCHEMA)
    answers = ("texts", "verdicts", "extracted", "tokens", "finished")
    rows = []
    for record in frame.iter_rows(named=True):
        columns = zip(*(record[name] or [] for name in answers), strict=True)
        rows.append(
            RowResult(
                row=record["row"],
                skipped=record["skipped"],
                perplexity=record["perplexity"],
                target_tokens=record["target_tokens"],
                span_shifted=record["span_shifted"],
                answers=[
                    Answer(text=text, grade=Grade(verdict, extracted), tokens=tokens, finished=finished)
                    for text, verdict, extracted, tokens, finished in columns
                ],
                similarities=record["similarities"] or [],
            )
        )
    return rows, produced_by


def check(
    content: bytes,
    *,
    kind: str,
    start: int,
    stop: int,
    samples: int,
    plan: DrawPlan | None = None,
    regraded: bool = False,
) -> tuple[pl.DataFrame, dict[str, str]]:
    """The frame and its metadata, after making sure that it holds each row of the task once and whole.

    The rows are those of [start, stop), of a draw those of its plan, each with as many answers as reach its goal (unless
    they were `regraded`). Raises InputError, naming the first thing that is wrong.
    """
    frame, produced_by = read(content, SCHEMA)
    if plan is None:
        check_rows(frame, start=start, stop=stop)
    elif frame["row"].to_list() != plan.rows:
        raise InputError(f"the result must hold each of the {len(plan.rows)} rows of the task's plan once and in order")
    scored = frame.filter(pl.col("skipped").is_null())
    most = 0 if kind == "perplexity" else samples
    _check_answers(scored, least=1 if kind == "draw" else most, most=most, compared=kind in ("train", "draw"))
    if plan is not None and not regraded:
        _check_goals(frame, plan, samples=samples)
    measured = (scored["perplexity"].is_finite() & (scored["perplexity"] >= 1.0)).fill_null(False).all()
    if kind in ("train", "perplexity") and not measured:
        raise InputError("each scored training row needs a finite perplexity of at least 1")
    return frame, produced_by


def check_partial(content: bytes, *, kind: str, start: int, stop: int, samples: int) -> None:
    """Raises InputError where it holds anything but what rows of the task have so far."""
    frame, _ = read(content, SCHEMA)
    row = frame["row"]
    if not (row.is_between(start, stop - 1).all() and (row.diff().drop_nulls() > 0).all()):
        raise InputError(f"a partial result holds rows from {start} to {stop - 1}, each once and in order")
    _check_answers(frame.filter(pl.col("skipped").is_null()), least=0, most=samples, compared=kind in ("train", "draw"))


def _check_answers(scored: pl.DataFrame, *, least: int, most: int, compared: bool) -> None:
    """Raises InputError."""
    counted = scored["verdicts"].list.len()
    between = str(most) if least == most else f"{least} to {most}"
    for column in ("texts", "verdicts", "extracted", "tokens", "finished"):
        lengths = scored[column].list.len()
        if not (lengths.is_between(least, most) & (lengths == counted)).fill_null(False).all():
            raise InputError(f"each scored row needs {between} entries in {column}")
    like = scored["similarities"]
    wanted = counted if compared else counted * 0
    if not (like.list.drop_nulls().list.len() == wanted).fill_null(False).all():
        raise InputError(f"each scored row needs {between if compared else 0} entries in similarities")
    if not like.explode().drop_nulls().is_between(0.0, 1.0).all():  # NaN is not
        raise InputError("similarities lie between 0 and 1")
    unknown = set(scored["verdicts"].explode().drop_nulls().unique()) - set(get_args(Verdict))
    if unknown and scored.height:
        raise InputError(f"unknown verdicts: {sorted(map(str, unknown))}")


def _check_goals(frame: pl.DataFrame, plan: DrawPlan, *, samples: int) -> None:
    """Raises InputError."""
    right = frame["verdicts"].list.count_matches("right").to_list()
    drawn = frame["verdicts"].list.len().to_list()
    for row, floor, ceiling, correct, answers in zip(plan.rows, plan.floor, plan.ceiling, right, drawn, strict=True):
        more = Goal(0, floor, ceiling).more(correct, answers, samples=samples)
        if more:
            raise InputError(f"row {row} has {answers} answers, and its plan needs {more} more at least")


def read(content: bytes, schema: pl.Schema) -> tuple[pl.DataFrame, dict[str, str]]:
    """A result's frame and who made it. Raises InputError where it has another schema."""
    try:
        frame = pl.read_parquet(io.BytesIO(content))
        metadata = pl.read_parquet_metadata(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"the result is no Parquet file: {error}") from error
    if frame.schema != schema:
        raise InputError(f"the result's columns must be {dict(schema)}, not {dict(frame.schema)}")
    return frame, {key: _made_by(metadata, key) for key in (*PRODUCED_BY, WEIGHTS)}


def weights_of(content: bytes) -> str:
    """The fingerprint of the weights that made a result; "" where it tells none. Raises InputError where it is no result."""
    try:
        metadata = pl.read_parquet_metadata(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"the result is no Parquet file: {error}") from error
    return _made_by(metadata, WEIGHTS)


def _made_by(metadata: Mapping[str, str], key: str) -> str:
    if key not in metadata:
        raise InputError(f"the result's metadata has no {key!r}: write it, empty where it is not known")
    return metadata[key]


def written_anew(checkpoint: str) -> str:
    """What is told of a checkpoint whose weights are others than in a result before. `checkpoint`: its name."""
    return (
        f"checkpoint {checkpoint!r} was written anew between two tasks: its weights are others than those of its results "
        "so far. Post the job again with checkpoints that stay as they are until it ends"
    )


def check_rows(frame: pl.DataFrame, *, start: int, stop: int) -> None:
    """Raises InputError."""
    if frame["row"].to_list() != list(range(start, stop)):
        raise InputError(f"the result must hold each row from {start} to {stop - 1} once and in order")


def skipped_reasons(frame: pl.DataFrame) -> Counter[str]:
    """How often each reason for skipping a row was given."""
    return Counter(frame["skipped"].drop_nulls().to_list())
