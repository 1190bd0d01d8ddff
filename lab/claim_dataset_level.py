"""Claim: averaged over the training examples, pre-memorization accuracy equals test accuracy (Kang et al. 2024, fig. 3).

A sweep over sizes and learning rates, laid down before any of it was run: every run is finetuned from the committed
base, scored by a premem service with one worker on twins as its test set, and all of them are calibrated together by
that service. The claim holds where R² on the line y = x reaches 0.9 at one threshold for all runs; the accuracy on the
training examples themselves must not do as well.

    python -m lab.claim_dataset_level     # writes docs/claims.md and two pictures beside it

Interrupted, it goes on where it was: out/claims/dataset-level keeps every finished run and job.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from lab.demo import MAX_TOKENS, TWINS
from lab.finetune import finetune
from lab.plots import Axis, curves, scatter
from lab.questions import read_jsonl, training_rows, twin_rows, write_jsonl
from premem.cli.exits import complain
from premem.cli.jobs import watched
from premem.client.client import Client
from premem.errors import NotFound, PrememError
from premem.forecasting.calibration import Fit, fit
from premem.forecasting.rules import RULES
from premem.local import LocalService
from premem.output.console import say
from premem.wire.calibrations import CalibrationReply, FitReply
from premem.wire.jobs import ENDED, Checkpoint, Job, JobRequest, Sampling
from premem.wire.reports import CheckpointReport

BASE = Path(__file__).parent / "base"
TASK = "lab"
SHARD_ROWS = 1000
"""Large: on one worker a task is only a lease to renew."""


@dataclass(frozen=True, slots=True)
class Configuration:
    examples: int
    learning_rate: float
    epochs: int
    every: int
    """Epochs between two checkpoints."""
    seed: int
    twins: int = TWINS
    """Test questions per example."""

    @property
    def run(self) -> str:
        return f"n{self.examples}-lr{self.learning_rate:g}-e{self.epochs}"

    @property
    def name(self) -> str:
        """Of its job: a run can be scored again with a larger test set."""
        return self.run if self.twins == TWINS else f"{self.run}-twins{self.twins}"


_SHAPES = ((100, 24, 4), (200, 18, 3), (400, 12, 2))
_RATES = (1e-3, 2e-3, 4e-3, 8e-3)
SWEEP = (
    *(
        Configuration(examples, rate, epochs, every, seed=100 + len(_RATES) * shape + at)
        for shape, (examples, epochs, every) in enumerate(_SHAPES)
        for at, rate in enumerate(_RATES)
    ),
    Configuration(800, 4e-3, 5, 2, seed=112),
)
"""Every size with every rate, and one larger run; six checkpoints each (the larger run: three)."""


def finetuned(configuration: Configuration, folder: Path) -> list[Path]:
    """The run's checkpoints, in order. What an interruption left half done is done again."""
    finished = folder / "finetuned.json"
    if not finished.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        rows = training_rows(configuration.examples, seed=configuration.seed)
        write_jsonl(folder / "train.jsonl", rows)
        losses = {
            checkpoint.name: loss
            for checkpoint, loss in finetune(
                rows,
                base=BASE,
                out=folder,
                epochs=configuration.epochs,
                learning_rate=configuration.learning_rate,
                every=configuration.every,
                seed=configuration.seed,
            )
        }
        finished.write_text(json.dumps(losses))
    return [folder / name for name in json.loads(finished.read_text())]


def scored(client: Client, local: LocalService, configuration: Configuration, folder: Path) -> Job:
    """The completed job, an earlier one where there is one. Raises PrememError where it ended otherwise."""
    earlier = next((job for job in client.jobs() if job.name == configuration.name), None)
    if earlier is not None and earlier.state == "completed":
        return earlier
    if earlier is None or earlier.state in ENDED:
        checkpoints = finetuned(configuration, folder)
        test = folder / f"test-{configuration.twins}.jsonl"
        rows = read_jsonl(folder / "train.jsonl")
        write_jsonl(test, twin_rows(rows, twins=configuration.twins, seed=configuration.seed))
        request = JobRequest(
            dataset=client.upload(folder / "train.jsonl", grader="gsm8k").id,
            test_dataset=client.upload(test, grader="gsm8k").id,
            checkpoints=[Checkpoint(path=str(checkpoint.resolve())) for checkpoint in checkpoints],
            name=configuration.name,
            sampling=Sampling(max_tokens=MAX_TOKENS, seed=configuration.seed),
            task=TASK,
            learning_rate=configuration.learning_rate,
            shard_rows=SHARD_ROWS,
        )
        earlier = client.create_job(request)
    job = watched(client, earlier.id, on_progress=lambda _: local.check(), away_seconds=0)
    if job.state != "completed":
        raise PrememError(f"job {job.id} ({job.name}) is {job.state}; the logs lie in {local.folder}")
    return job


def calibrations(client: Client, jobs: Sequence[Job]) -> dict[str, CalibrationReply]:
    """One per rule, over all the jobs, made anew."""
    made: dict[str, CalibrationReply] = {}
    for rule in RULES:
        with suppress(NotFound):
            client.delete_calibration(f"claims-{rule}")
        made[rule] = client.calibrate(f"claims-{rule}", [job.id for job in jobs], rule=rule)
    return made


def claim(sweep: Sequence[Configuration], *, folder: Path, docs: Path) -> CalibrationReply:
    """Run the sweep, or what is left of it, and write what came out. Returns the calibration by the paper's rule."""
    started = time.monotonic()
    with (
        LocalService(
            folder / "service",
            checkpoint_roots=[folder],
            engine="transformers",
            environment={"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
        ) as local,
        Client(local.url) as client,
    ):
        jobs = []
        for number, configuration in enumerate(sweep, start=1):
            minutes = (time.monotonic() - started) / 60
            say(f"run {number} of {len(sweep)}, after {minutes:.1f} min: {configuration.name}")
            jobs.append(scored(client, local, configuration, folder / configuration.run))
        by_rule = calibrations(client, jobs)
        reports = {job.name: client.report(job.id, calibration=by_rule["paper"].name).checkpoints for job in jobs}
    written(by_rule, reports, docs=docs)
    say(f"done in {(time.monotonic() - started) / 60:.1f} min")
    return by_rule["paper"]


# What is written


def written(by_rule: dict[str, CalibrationReply], reports: dict[str, list[CheckpointReport]], *, docs: Path) -> None:
    found = by_rule["paper"]
    raw = fit(
        np.array([line.train_accuracy for lines in reports.values() for line in lines]),
        np.array([line.test_accuracy for lines in reports.values() for line in lines]),
    )
    text = page(by_rule, raw, reports)
    print(text)
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "claims.md").write_text(text, encoding="utf-8")
    share = Axis("pre-memorization accuracy, mean over the training examples", 0.0, 1.0)
    by_size: dict[str, list[tuple[float, float]]] = {}
    for point in found.points:
        size = point.run.split("-")[0].removeprefix("n")
        by_size.setdefault(f"{size} examples", []).append((point.forecast, point.test))
    (docs / "claims-scatter.svg").write_text(
        scatter(
            by_size,
            title=f"{len(found.points)} checkpoints of {len(reports)} runs: R² {found.fit.r2_identity or 0:.3f}",
            x=share,
            y=Axis("accuracy on twins", 0.0, 1.0),
        ),
        encoding="utf-8",
    )
    nll = [float(np.log(below)) for below in found.thresholds]
    (docs / "claims-thresholds.svg").write_text(
        curves(
            {
                rule: list(zip(nll, [-1.0 if r2 is None else r2 for r2 in made.r2], strict=True))
                for rule, made in by_rule.items()
                if made.thresholds == found.thresholds
            },
            title="R² on y = x against the threshold",
            x=Axis("threshold of memorization, in nats per token", round(nll[0], 2), round(nll[-1], 2)),
            y=Axis("R² (what is lower is drawn at the bottom)", 0.0, 1.0),
            levels=(0.9,),
        ),
        encoding="utf-8",
    )


def page(by_rule: dict[str, CalibrationReply], raw: Fit, reports: dict[str, list[CheckpointReport]]) -> str:
    found = by_rule["paper"]
    band = "none" if found.band is None else f"{_nats(found.band[0])} to {_nats(found.band[1])}"
    r2_low, r2_high = found.r2_interval
    lines = [
        "# What the lab's sweep says of the claim on data sets",
        "",
        "Written by `python -m lab.claim_dataset_level`; what was tried on the way, and the other claims, stand in",
        "[lab/LOG.md](../lab/LOG.md). Thresholds are in nats per token (the log of the perplexity).",
        "",
        f"{len(reports)} runs, {len(found.points)} checkpoints, test accuracy "
        f"{min(point.test for point in found.points):.2f} to {max(point.test for point in found.points):.2f}.",
        "",
        "| rule | threshold | R² on y = x | linear R² | mean absolute error | R² leaving one run out | error leaving one out |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {rule} | {_nats(made.memorized_below)} | {_figures(made.fit)} | {_number(made.left_out.r2_identity)} "
            f"| {made.left_out.mae:.3f} |"
            for rule, made in by_rule.items()
        ),
        f"| accuracy on the training examples | | {raw.r2_identity:.3f} | {raw.r2_linear:.3f} | {raw.mae:.3f} | | |",
        "",
        f"By the paper's rule: 90% interval of R² (bootstrap over runs) {_number(r2_low)} to {_number(r2_high)}, of the "
        f"threshold {_nats(found.interval[0])} to {_nats(found.interval[1])}; R² is 0.9 or more at thresholds: {band}. "
        f"A forecast's 90% interval reaches {found.half_width:.3f} to both sides.",
        "",
        *(f"Warning: {warning}.\n" for warning in found.warnings),
        "![pre-memorization accuracy against test accuracy](claims-scatter.svg)",
        "",
        "![R² against the threshold](claims-thresholds.svg)",
        "",
        "| run | checkpoint | train accuracy | memorized | pre-memorization accuracy | test accuracy |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {run} | {line.checkpoint.removeprefix('checkpoint-')} | {line.train_accuracy:.3f} "
            f"| {line.memorized:.0%} | {line.pre_memorization_accuracy:.3f} | {_number(line.test_accuracy)} |"
            for run, checkpoints in reports.items()
            for line in checkpoints
        ),
    ]
    return "\n".join(lines) + "\n"


def _nats(perplexity: float) -> str:
    return f"{np.log(perplexity):.4f}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _figures(figures: FitReply) -> str:
    return f"{_number(figures.r2_identity)} | {_number(figures.r2_linear)} | {figures.mae:.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.claim_dataset_level", description=__doc__.split("\n\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("out/claims/dataset-level"), help="default %(default)s")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="for claims.md (default %(default)s)")
    parser.add_argument(
        "--questions", type=int, default=0, help="test each run on at least so many twins (default: two per example)"
    )
    options = parser.parse_args(arguments)
    sweep = [
        replace(configuration, twins=max(TWINS, math.ceil(options.questions / configuration.examples)))
        for configuration in SWEEP
    ]
    torch.set_num_threads(1)
    try:
        claim(sweep, folder=options.folder, docs=options.docs)
    except (PrememError, OSError) as error:
        return complain(error)
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
