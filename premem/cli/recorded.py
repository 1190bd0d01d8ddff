"""`premem recorded`: what runs that others recorded say of the metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from premem.cli.exits import print_json
from premem.output.console import say

if TYPE_CHECKING:
    from premem.forecasting.calibration import Calibration
    from premem.forecasting.runs import ScoredRun
    from premem.forecasting.thresholds import Threshold


class ThresholdFrom(StrEnum):
    """Ways to a threshold without a test set, named by what they look at."""

    untrained_part = "untrained-part"
    never_trained = "never-trained"
    first_checkpoint = "first-checkpoint"


def add_to(app: typer.Typer, *, panel: str) -> None:
    app.command(rich_help_panel=panel)(recorded)


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
    rule: Annotated[str, typer.Option(metavar="NAME", help="paper, latest, shrunk or mean.")] = "paper",
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Recompute the metric on runs in the layout that its authors published, and how well it forecasts.

    DIR holds the runs, or is one. One run is enough where a threshold is given; what it cannot tell is said.

    Example: `premem recorded recorded-runs/ --rule shrunk`
    """
    from dataclasses import asdict

    from premem.errors import InputError
    from premem.forecasting.recorded_runs import read_runs
    from premem.output.calibrations import calibration_text, explained_text, recorded_table
    from premem.output.console import show

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
    if json:
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
    import numpy as np

    from premem.errors import InputError
    from premem.forecasting.calibration import calibrate, doubts

    if memorized_below is None:
        if len(runs) < 2:
            raise InputError(
                f"{runs[0].name} is the only run, and choosing a threshold needs at least two runs that differ in learning "
                "rate: give --memorized-below or --threshold-from to see what that threshold says of one run"
            )
        calibration = calibrate(runs, rule=rule)
        return summary(runs, calibration), calibration.warnings
    tested = [run for run in runs if not np.isnan(run.test_accuracy_C).all()]
    if len(tested) > 1:
        calibration = calibrate(tested, rule=rule, memorized_below=memorized_below)
        return summary(runs, calibration), calibration.warnings
    warnings = [*_not_told(tested), *doubts(runs, memorized_below)]
    fit = _fit(tested, memorized_below, rule=rule)
    told = {"runs": _runs(runs, memorized_below, rule=rule), "calibration": None, "fit": fit, "warnings": warnings}
    return told, warnings


def _fit(runs: list[ScoredRun], memorized_below: float, *, rule: str) -> dict[str, Any] | None:
    """How well a given threshold explains the one run that was tested; None where none was."""
    from premem.forecasting.calibration import explained

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
    import numpy as np

    from premem.forecasting.calibration import LEAST_POINTS
    from premem.forecasting.thresholds import NEEDS_CALIBRATION

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


def without_labels(name: ThresholdFrom, runs: list[ScoredRun]) -> Threshold:
    """A threshold that needs no test set. Raises InputError where the runs do not hold what it is taken from."""
    import numpy as np

    from premem.forecasting import thresholds

    if name is ThresholdFrom.untrained_part:
        return thresholds.from_untrained_part(runs)
    if name is ThresholdFrom.never_trained:
        return thresholds.from_never_trained(runs)
    return thresholds.from_first_checkpoint(np.concatenate([run.perplexity_CE[0] for run in runs]))


def _untested(runs: list[ScoredRun]) -> list[str]:
    """Checkpoints without a test accuracy, run by run, where any has one."""
    import numpy as np

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
    from premem.forecasting.rules import scores
    from premem.method.memorization import memorized

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
