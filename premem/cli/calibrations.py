"""Commands that calibrate, on jobs of a running service or on runs that others recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from premem.cli.exits import FAILED, print_json
from premem.cli.jobs import send
from premem.cli.options import AsJson, ServiceUrl, asked, memorized_below_from
from premem.client.client import Client
from premem.errors import InputError
from premem.forecasting.calibration import LEAST_POINTS, Calibration, doubtful_subset, doubts, explained
from premem.forecasting.calibration import calibrate as calibrate_runs
from premem.forecasting.recorded_runs import read_runs
from premem.forecasting.rules import RuleName, scores
from premem.forecasting.runs import ScoredRun
from premem.forecasting.thresholds import NEEDS_CALIBRATION, ThresholdFrom, without_labels
from premem.method.memorization import memorized
from premem.output.calibrations import (
    calibration_text,
    calibrations_table,
    explained_text,
    recorded_table,
    stored_calibration_text,
)
from premem.output.console import say, show
from premem.output.reports import jobs_table
from premem.wire.calibrations import CalibrationRequest, RecordedRun
from premem.wire.datasets import Columns
from premem.wire.jobs import Job


def calibrate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Under which it is kept.")],
    jobs: Annotated[list[str], typer.Argument(metavar="JOB", help="Completed, with a test set; at least two.")],
    rule: Annotated[RuleName, typer.Option(help="What is averaged.")] = "paper",
    memorized_below: Annotated[
        float | None, typer.Option(metavar="X", help="Perplexity, to learn what it explains. Absent: the best one.")
    ] = None,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """Find the threshold that best explains several jobs, and keep it under a name.

    The jobs must be runs of one model on one task, and should differ in learning rate. A job that is scored with
    `--calibration NAME` then gets a forecast of its test accuracy, or the reason why not.

    Example: `premem calibrate llama-gsm8k job_01 job_02 job_03 job_04`
    """
    asked(CalibrationRequest, name=name, jobs=jobs, rule=rule, memorized_below=memorized_below)
    with Client(service) as client:
        found = client.calibrate(name, jobs, rule=rule, memorized_below=memorized_below)
    if as_json:
        print_json(found)
        return
    show(stored_calibration_text(found))
    for warning in found.warnings:
        say(f"warning: {warning}")


def calibrations(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Absent: all are listed.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Forget the one that is named.")] = False,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """List the calibrations of a service, or show one.

    Example: `premem calibrations`, then `premem calibrations llama-gsm8k`
    """
    if delete and name is None:
        raise InputError("--delete: name the calibration that is to be forgotten")
    with Client(service) as client:
        if name is None:
            every = list(client.calibrations())
            if as_json:
                print_json({"items": [one.model_dump(mode="json") for one in every]})
            else:
                show(calibrations_table(every) if every else "There are no calibrations.")
            return
        found = client.calibration(name)
        if delete:
            client.delete_calibration(found.id)
            say(f"{found.name} is forgotten")
            return
    if as_json:
        print_json(found)
    else:
        show(stored_calibration_text(found))


def import_recorded(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Recorded runs, in the layout of the metric's authors.")
    ],
    data: Annotated[
        str,
        typer.Option(metavar="DATA", help="Their training questions: a JSONL or Parquet file, or a data set's id."),
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Architecture and size, such as 'LlamaForCausalLM 8.03B'.")
    ],
    task: Annotated[str, typer.Option(metavar="NAME", help="Absent: the data's name.")] = "",
    grader: Annotated[str, typer.Option(metavar="NAME", help="What decided whether an answer was right.")] = "authors",
    memorized_below: Annotated[
        str | None, typer.Option(metavar="X", help="Perplexity, or gsm8k-llama3 or math-llama3.")
    ] = None,
    calibration: Annotated[str | None, typer.Option(metavar="NAME", help="Instead: a calibration.")] = None,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """Bring recorded runs into a service as finished jobs.

    They have rankings, curated subsets and reports like any other, but no answers, and can be calibrated on.

    Example: `premem import-recorded recorded-runs/ --data train.jsonl --model 'LlamaForCausalLM 8.03B'`
    """
    from premem.payloads.recordings import described  # brings polars, which nothing else here needs

    runs = read_runs(folder)
    if not Path(data).is_file() and ("." in data or "/" in data):
        raise InputError(f"{data}: there is no such file")
    known: dict[str, Any] = {
        "model": model,
        "task": task,
        "grader": {"name": grader},
        "memorized_below": memorized_below_from(memorized_below),
        "calibration": calibration,
    }
    asked(RecordedRun, dataset="not uploaded yet", samples=1, checkpoints=[{"name": "1"}], **known)
    jobs: list[Job] = []
    with Client(service) as client:
        uploaded = send(client, Path(data), columns=Columns()) if Path(data).is_file() else client.dataset(data)
        for run in runs:
            job = client.import_recorded(run, described(run, dataset=uploaded.id, **known))
            jobs.append(client.wait(job.id))
            say(f"{run.name}: {jobs[-1].state}")
            below = jobs[-1].threshold.memorized_below
            doubt = None if below is None else doubtful_subset(run, below)
            if doubt is not None:
                say(f"warning: {doubt}")
    if as_json:
        print_json({"items": [job.model_dump(mode="json") for job in jobs]})
    else:
        show(jobs_table(jobs))
    failed = [job for job in jobs if job.state != "completed"]
    for job in failed:
        say(f"error: {job.name}: {'; '.join(job.errors)}")
    if failed:
        raise typer.Exit(FAILED)


def recorded(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder with the recorded runs.")],
    memorized_below: Annotated[
        float | None,
        typer.Option(metavar="X", help="Perplexity. Absent: the threshold that explains these runs best."),
    ] = None,
    threshold_from: Annotated[
        ThresholdFrom | None,
        typer.Option(
            help="Instead, where there is no test set: the accuracy on the part that a run was not trained on, "
            "the 1% quantile of never-trained examples, or the 3.5% quantile of the first checkpoints."
        ),
    ] = None,
    rule: Annotated[RuleName, typer.Option(help="What is averaged.")] = "paper",
    as_json: AsJson = False,
) -> None:
    """Recompute the metric on runs in the layout that its authors published, and how well it forecasts.

    DIR holds the runs, or is one. One run is enough where a threshold is given; what it cannot tell is said.

    Example: `premem recorded recorded-runs/ --rule shrunk`
    """
    if memorized_below is not None and not memorized_below > 1.0:
        raise InputError(f"--memorized-below is a perplexity above 1, not {memorized_below}")
    if memorized_below is not None and threshold_from is not None:
        raise InputError("give --memorized-below or --threshold-from, not both: each names the threshold")
    runs = read_runs(folder)
    threshold = None if threshold_from is None else without_labels(threshold_from, runs)
    if threshold is not None:
        memorized_below = threshold.memorized_below
    found, warnings = _found(runs, memorized_below, rule=rule)
    if threshold is not None:
        found["threshold"] = asdict(threshold)
    if as_json:
        print_json(found)
        return
    show(recorded_table(found))
    if threshold is not None:
        show(f"Memorized below perplexity {threshold.memorized_below:.4f}: {threshold.source}.")
    if found["calibration"] is not None:
        show(calibration_text(found["calibration"], rule=rule))
    elif found["fit"] is not None:
        show(explained_text(found["fit"]))
    for warning in (*_untested(runs), *warnings):
        say(f"warning: {warning}")


def _found(runs: list[ScoredRun], memorized_below: float | None, *, rule: str) -> tuple[dict[str, Any], Sequence[str]]:
    """What `--json` prints, and what to be warned of. A threshold that is given needs no calibration, nor several runs."""
    if memorized_below is None:
        if len(runs) < 2:
            raise InputError(
                f"{runs[0].name} is the only run, and choosing a threshold needs at least two runs that differ in learning "
                "rate: give --memorized-below or --threshold-from to see what that threshold says of one run"
            )
        calibration = calibrate_runs(runs, rule=rule)
        return summary(runs, calibration), calibration.warnings
    tested = [run for run in runs if not np.isnan(run.test_accuracy_C).all()]
    if len(tested) > 1:
        calibration = calibrate_runs(tested, rule=rule, memorized_below=memorized_below)
        return summary(runs, calibration), calibration.warnings
    warnings = [*_not_told(tested), *doubts(runs, memorized_below)]
    fit = _fit(tested, memorized_below, rule=rule)
    told = {"runs": _runs(runs, memorized_below, rule=rule), "calibration": None, "fit": fit, "warnings": warnings}
    return told, warnings


def _fit(runs: list[ScoredRun], memorized_below: float, *, rule: str) -> dict[str, Any] | None:
    """How well a given threshold explains the one run that was tested; None where none was."""
    found = explained(runs, memorized_below=memorized_below, rule=rule) if runs else None
    if found is None:
        return None
    points, fit = found
    return {
        "rule": rule,
        "memorized_below": memorized_below,
        "run": runs[0].name,
        "checkpoints": points,
        "r2_identity": _or_none(fit.r2_identity),
        "r2_linear": _or_none(fit.r2_linear),
        "mae": fit.mae,
    }


def _not_told(tested: list[ScoredRun]) -> list[str]:
    """What fewer than two runs with a test accuracy leave open."""
    if not tested:
        return [f"no run has a test accuracy, so nothing is calibrated: {NEEDS_CALIBRATION}"]
    told = [
        f"{tested[0].name} is the only run with a test accuracy: which threshold is best, how sure that is, and how far "
        "forecasts of other runs are off cannot be told without several runs that differ in learning rate; on one run "
        "almost any threshold can look right"
    ]
    points = int((~np.isnan(tested[0].test_accuracy_C)).sum())
    if points < LEAST_POINTS:
        told.append(f"R² needs at least {LEAST_POINTS} checkpoints with a test accuracy, not {points}")
    return told


def _untested(runs: list[ScoredRun]) -> list[str]:
    """Checkpoints without a test accuracy, run by run, where any has one."""
    if all(np.isnan(run.test_accuracy_C).all() for run in runs):
        return []
    told = []
    for run in runs:
        missing = [run.checkpoints[c] for c in np.flatnonzero(np.isnan(run.test_accuracy_C))]
        if missing:
            told.append(
                f"{run.name}: no test_answer_types….npy in {', '.join(missing)}; left out of what is held against the test "
                "accuracy"
            )
    return told


def summary(runs: list[ScoredRun], calibration: Calibration) -> dict[str, Any]:
    """What `--json` prints; a number that does not exist is null."""
    return {
        "runs": _runs(runs, calibration.memorized_below, rule=calibration.rule),
        "calibration": {
            "rule": calibration.rule,
            "memorized_below": calibration.memorized_below,
            "r2_identity": _or_none(calibration.fit.r2_identity),
            "r2_linear": _or_none(calibration.fit.r2_linear),
            "mae": calibration.fit.mae,
            "loro_r2_identity": _or_none(calibration.left_out.r2_identity),
            "loro_mae": calibration.left_out.mae,
            "interval": list(calibration.interval),
            "r2_interval": [_or_none(end) for end in calibration.r2_interval],
            "band": None if calibration.band is None else list(calibration.band),
            "half_width": calibration.half_width,
            "warnings": list(calibration.warnings),
        },
    }


def _runs(runs: list[ScoredRun], below: float, *, rule: str) -> list[dict[str, Any]]:
    told = []
    for run in runs:
        score_C = scores(run, memorized_below=below, rule=rule).mean(axis=1)
        memorized_C = memorized(run.perplexity_CE, memorized_below=below).mean(axis=1)
        lines = [
            {
                "checkpoint": checkpoint,
                "examples": run.accuracy_CE.shape[1],
                "train_accuracy": float(run.accuracy_CE[c].mean()),
                "memorized": float(memorized_C[c]),
                "pre_memorization_accuracy": float(score_C[c]),
                "test_accuracy": _or_none(float(run.test_accuracy_C[c])),
            }
            for c, checkpoint in enumerate(run.checkpoints)
        ]
        told.append({"run": run.name, "checkpoints": lines})
    return told


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
