"""`premem recorded`: what runs that others recorded say of the metric."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from premem.cli_terminal import print_json, say

if TYPE_CHECKING:
    from premem.calibration import Calibration
    from premem.runs import ScoredRun


def add_to(app: typer.Typer, *, panel: str) -> None:
    app.command(rich_help_panel=panel)(recorded)


def recorded(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder with the recorded runs.")],
    memorized_below: Annotated[
        float | None,
        typer.Option(metavar="X", help="Perplexity. Absent: the threshold that explains these runs best."),
    ] = None,
    rule: Annotated[str, typer.Option(metavar="NAME", help="paper, latest, shrunk or mean.")] = "paper",
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Recompute the metric on runs in the layout that its authors published, and how well it forecasts.

    Example: `premem recorded recorded-runs/ --rule shrunk`
    """
    from premem.calibration import calibrate
    from premem.errors import InputError
    from premem.recorded import read_runs
    from premem.tables import calibration_text, recorded_table, show

    if memorized_below is not None and not memorized_below > 1.0:
        raise InputError(f"--memorized-below is a perplexity above 1, not {memorized_below}")
    runs = read_runs(folder)
    calibration = calibrate(runs, rule=rule, memorized_below=memorized_below)
    found = summary(runs, calibration)
    if json:
        print_json(found)
        return
    show(recorded_table(found), calibration_text(found["calibration"], rule=rule))
    for warning in calibration.warnings:
        say(f"warning: {warning}")


def summary(runs: list[ScoredRun], calibration: Calibration) -> dict[str, Any]:
    """What `--json` prints; a number that does not exist is null."""
    from premem.memorization import memorized
    from premem.rules import scores

    below = calibration.memorized_below
    told = []
    for run in runs:
        score_C = scores(run, memorized_below=below, rule=calibration.rule).mean(axis=1)
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
    return {
        "runs": told,
        "calibration": {
            "rule": calibration.rule,
            "memorized_below": below,
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


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
