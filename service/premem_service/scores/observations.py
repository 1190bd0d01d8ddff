"""What the checkpoints of a job did, out of the results of its tasks, or as others recorded it.

Shapes: C checkpoints that count, in order, E training examples. Texts of answers are never read here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from premem.forecasting.thresholds import Threshold, from_first_checkpoint
from premem.method.memorization import memorized, pre_memorization_accuracies
from premem.payloads.recordings import decode
from premem.payloads.results import PRODUCED_BY
from premem.wire.reports import CheckpointReport
from premem_service.queue.states import scored_checkpoints
from premem_service.storage.rows import JobRow, ResultRow, all_of
from premem_service.storage.store import Store
from premem_service.storage.tables import tasks

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(slots=True)
class Observed:
    """What the checkpoints did with the training examples."""

    names: list[str]
    accuracy_CE: Floats
    """NaN where an example was skipped, or not every answer was drawn."""
    perplexity_CE: Floats
    """NaN where an example was skipped."""
    correct_CE: Ints
    drawn_CE: Ints
    per_pair: int
    """Answers of an example at a checkpoint, where all are drawn."""
    test: list[tuple[float, int | None] | None]
    """Per checkpoint: accuracy and number of the test examples that were answered."""
    reasons: dict[int, str] = field(default_factory=dict)
    """Why a training example was skipped, at the first checkpoint that did."""
    produced_by: dict[str, set[str]] = field(default_factory=lambda: {key: set() for key in PRODUCED_BY})
    samples: int = 0
    timeouts: int = 0
    span_shifted: int = 0
    scored: int = 0
    copied_CE: Floats | None = None
    """Share of the answers that reproduce the reference; None where nobody kept the answers."""
    untrained: int = 0
    """Rows of the data set that the run was not trained on: no score is missing there."""

    def counted(self) -> Floats:
        """C × E, what scores are made of: the accuracy, or the least that it can be where not every answer was drawn."""
        undrawn_CE = np.isnan(self.accuracy_CE) & ~np.isnan(self.perplexity_CE)
        return np.where(undrawn_CE, self.correct_CE / self.per_pair, self.accuracy_CE)

    def scored_only(self) -> Observed:
        """Without the checkpoints that skipped every example."""
        scored = np.flatnonzero(~np.isnan(self.perplexity_CE).all(axis=1))
        if scored.size == len(self.names):
            return self
        return replace(
            self,
            names=[self.names[place] for place in scored],
            test=[self.test[place] for place in scored],
            accuracy_CE=self.accuracy_CE[scored],
            perplexity_CE=self.perplexity_CE[scored],
            correct_CE=self.correct_CE[scored],
            drawn_CE=self.drawn_CE[scored],
            copied_CE=None if self.copied_CE is None else self.copied_CE[scored],
        )


@dataclass(frozen=True, slots=True)
class Results:
    """The tasks of one checkpoint that count."""

    name: str
    train: list[ResultRow]
    """Each with the perplexities of its rows, and with their answers where everything is drawn."""
    draws: list[ResultRow]
    """Each with answers of some rows; a later one holds those of an earlier one too, where both have a row."""
    test: list[ResultRow]
    """Empty where one of them is missing."""


def completed_results(connection: Connection, job: str) -> list[Results]:
    """Of the checkpoints that count, in order."""
    found = []
    for position, name in connection.execute(scored_checkpoints(job)).all():
        of_checkpoint = (
            select(tasks.c.kind, tasks.c.state, tasks.c.start, tasks.c.stop, tasks.c.artifact)
            .where(tasks.c.job == job, tasks.c.checkpoint == position)
            .order_by(tasks.c.start, tasks.c.variant)
        )
        every = all_of(ResultRow, connection, of_checkpoint)
        test = [task for task in every if task.kind == "test"]
        whole = all(task.state == "completed" for task in test)
        train = [task for task in every if task.kind in ("train", "perplexity")]
        draws = [task for task in every if task.kind == "draw" and task.state == "completed"]
        found.append(Results(name=name, train=train, draws=draws, test=test if whole else []))
    return found


def read(
    store: Store,
    results: list[Results],
    *,
    examples: int,
    samples: int,
    copied_from: float,
    check: Callable[[], None],
) -> Observed:
    """`samples` per example, of which those as like the reference as `copied_from` count as copied."""
    shape = (len(results), examples)
    seen = Observed(
        names=[checkpoint.name for checkpoint in results],
        accuracy_CE=np.full(shape, np.nan),
        perplexity_CE=np.full(shape, np.nan),
        correct_CE=np.zeros(shape, np.int64),
        drawn_CE=np.zeros(shape, np.int64),
        per_pair=samples,
        test=[],
        copied_CE=np.full(shape, np.nan),
    )
    for place, checkpoint in enumerate(results):
        for task in checkpoint.train:
            check()
            frame = _frame(store, task.artifact, seen)
            seen.perplexity_CE[place, task.start : task.stop] = frame["perplexity"].fill_null(np.nan).to_numpy()
            for row, reason in frame.filter(pl.col("skipped").is_not_null()).select("row", "skipped").iter_rows():
                seen.reasons.setdefault(row, reason)
            _put_answers(seen, place, frame, copied_from)
        for task in checkpoint.draws:
            check()
            _put_answers(seen, place, _frame(store, task.artifact, seen), copied_from)
        whole_E = seen.drawn_CE[place] == samples
        seen.accuracy_CE[place, whole_E] = seen.correct_CE[place, whole_E] / samples
        tested = [np.zeros(0)]
        for task in checkpoint.test:
            check()
            tested.append(_accuracy(_frame(store, task.artifact, seen), samples))
        answered = np.concatenate(tested)
        answered = answered[~np.isnan(answered)]
        seen.test.append((float(answered.mean()), answered.size) if answered.size else None)
    return seen


def _put_answers(seen: Observed, place: int, frame: pl.DataFrame, copied_from: float) -> None:
    answered = frame.filter(pl.col("drawn") > 0)
    rows = answered["row"].to_numpy()
    seen.correct_CE[place, rows] = answered["correct"].to_numpy()
    seen.drawn_CE[place, rows] = answered["drawn"].to_numpy()
    if seen.copied_CE is not None:
        seen.copied_CE[place, rows] = _copied(answered, copied_from)


def read_recorded(store: Store, artifact: str, *, examples: int) -> Observed:
    """A run as others recorded it, over the rows of the data set that it was trained on."""
    recording = decode(store.get(artifact))
    about = recording.about
    shape = (len(about.checkpoints), examples)
    seen = Observed(
        names=[checkpoint.name for checkpoint in about.checkpoints],
        accuracy_CE=np.full(shape, np.nan),
        perplexity_CE=np.full(shape, np.nan),
        correct_CE=np.zeros(shape, np.int64),
        drawn_CE=np.zeros(shape, np.int64),
        per_pair=about.samples,
        test=[
            None if checkpoint.test_accuracy is None else (checkpoint.test_accuracy, checkpoint.test_examples)
            for checkpoint in about.checkpoints
        ],
        untrained=examples - recording.row_E.size,
    )
    seen.accuracy_CE[:, recording.row_E] = recording.accuracy_CE
    seen.perplexity_CE[:, recording.row_E] = recording.perplexity_CE
    seen.correct_CE[:, recording.row_E] = np.rint(recording.accuracy_CE * about.samples)
    seen.drawn_CE[:, recording.row_E] = about.samples
    seen.produced_by["engine"].add("recorded")
    seen.produced_by["model"].add(about.model)
    return seen


def threshold_of_history(job: JobRow, seen: Observed) -> Threshold:
    """The job's, or drawn from its first checkpoint."""
    if job.memorized_below is None:
        return from_first_checkpoint(seen.perplexity_CE[0])
    return Threshold(memorized_below=job.memorized_below, basis=job.threshold_basis, source=job.threshold_source)


def trajectory_scores(seen: Observed, *, memorized_below: float, trajectory: str) -> Floats:
    """C × E: pre-memorization accuracies as they stood at every checkpoint; NaN where too little was drawn to know."""
    scores_CE = pre_memorization_accuracies(seen.counted(), seen.perplexity_CE, memorized_below=memorized_below)
    if trajectory == "final":
        scores_CE[:-1] = np.nan
    return scores_CE


def checkpoint_reports(seen: Observed, scores_CE: Floats, *, memorized_below: float) -> list[CheckpointReport]:
    """One line per checkpoint, each of which has scored an example."""
    memorized_CE = memorized(seen.perplexity_CE, memorized_below=memorized_below)
    lines = []
    for place, name in enumerate(seen.names):
        known_E = ~np.isnan(seen.perplexity_CE[place])
        accuracy_E = seen.accuracy_CE[place][known_E]
        score_E = scores_CE[place][~np.isnan(scores_CE[place])]
        test = seen.test[place]
        lines.append(
            CheckpointReport(
                checkpoint=name,
                examples=int(known_E.sum()),
                train_accuracy=None if np.isnan(accuracy_E).any() else float(accuracy_E.mean()),
                memorized=float(memorized_CE[place][known_E].mean()),
                pre_memorization_accuracy=float(score_E.mean()) if score_E.size else None,
                test_accuracy=None if test is None else test[0],
                test_examples=None if test is None else test[1],
                copied=None if np.isnan(accuracy_E).any() else _mean_copied(seen, place),
            )
        )
    return lines


def _mean_copied(seen: Observed, place: int) -> float | None:
    if seen.copied_CE is None:
        return None
    known = seen.copied_CE[place][~np.isnan(seen.copied_CE[place])]
    return float(known.mean()) if known.size else None


def accuracies(store: Store, artifact: str, samples: int) -> Floats:
    """Of the rows of one result; NaN where one was skipped."""
    with store.open(artifact) as content, pq.ParquetFile(content) as file:
        frame = cast(pl.DataFrame, pl.from_arrow(file.read(columns=["skipped", "verdicts"])))
    right = pl.col("verdicts").list.count_matches("right")
    return _accuracy(frame.select("skipped", correct=right), samples)


def _accuracy(frame: pl.DataFrame, samples: int) -> Floats:
    """NaN where the example was skipped."""
    skipped = pl.col("skipped").is_not_null()
    shares = frame.select(pl.when(skipped).then(np.nan).otherwise(pl.col("correct") / samples)).to_series()
    accuracy: Floats = shares.to_numpy()
    return accuracy


def _copied(frame: pl.DataFrame, copied_from: float) -> Floats:
    """NaN where there is no answer, or none that was compared with the reference."""
    alike = pl.col("similarities").list.eval(pl.element() >= copied_from).list.mean()
    shares: Floats = frame.select(alike.fill_null(np.nan)).to_series().to_numpy()
    return shares


def _frame(store: Store, artifact: str, seen: Observed) -> pl.DataFrame:
    """row, skipped, perplexity, similarities and the number of right answers; counts the rest on the way."""
    with store.open(artifact) as content, pq.ParquetFile(content) as file:
        metadata = file.metadata.metadata
        table = file.read(columns=["row", "skipped", "perplexity", "span_shifted", "verdicts", "similarities"])
    for key, values in seen.produced_by.items():
        values.add(metadata[key.encode()].decode())
    frame = cast(pl.DataFrame, pl.from_arrow(table))
    seen.samples += int(frame["verdicts"].list.len().sum() or 0)
    seen.timeouts += int(frame["verdicts"].list.count_matches("timeout").sum() or 0)
    seen.span_shifted += int(frame["span_shifted"].sum() or 0)
    seen.scored += int(frame["perplexity"].is_not_null().sum())
    right = pl.col("verdicts").list.count_matches("right")
    return frame.select(
        "row", "skipped", "perplexity", "similarities", correct=right, drawn=pl.col("verdicts").list.len()
    )
