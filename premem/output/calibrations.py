"""Calibrations and recorded runs, as a terminal shows them."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from premem.output.console import new_table
from premem.output.text import percent_text, printable, share_text
from premem.wire.calibrations import CalibrationReply


def recorded_table(found: dict[str, Any]) -> Table:
    """One line per recorded run and checkpoint."""
    table = new_table(
        "run", "checkpoint", "examples", "train accuracy", "memorized", "pre-memorization accuracy", "test accuracy"
    )
    for run in found["runs"]:
        for line in run["checkpoints"]:
            table.add_row(
                Text(printable(run["run"])),
                Text(printable(line["checkpoint"])),
                f"{line['examples']:,}",
                share_text(line["train_accuracy"]),
                percent_text(line["memorized"]),
                share_text(line["pre_memorization_accuracy"]),
                share_text(line["test_accuracy"]),
            )
    return table


def calibration_text(calibration: dict[str, Any], *, rule: str) -> str:
    """The threshold, how well it explains the runs, and how well it would have forecast those left out."""
    low, high = calibration["interval"]
    r2_low, r2_high = calibration["r2_interval"]
    band = calibration["band"]
    kept = f"R² stays at 0.9 or more from {band[0]:.4f} to {band[1]:.4f}" if band else "R² reaches 0.9 nowhere"
    return (
        f"Rule {rule}, memorized below perplexity {calibration['memorized_below']:.4f} "
        f"(90% interval over runs {low:.4f} to {high:.4f}); {kept}.\n"
        f"In sample: R² on y = x {share_text(calibration['r2_identity'])} (90% interval {share_text(r2_low)} to "
        f"{share_text(r2_high)}), R² of the linear fit {share_text(calibration['r2_linear'])}, mean absolute error "
        f"{share_text(calibration['mae'])}.\n"
        f"Leaving one run out: R² on y = x {share_text(calibration['loro_r2_identity'])}, mean absolute error "
        f"{share_text(calibration['loro_mae'])}; a forecast's 90% interval is ± {share_text(calibration['half_width'])}."
    )


def explained_text(fit: dict[str, Any]) -> str:
    """How well a given threshold explains one run."""
    r2 = "" if fit["r2_identity"] is None else f"R² on y = x {share_text(fit['r2_identity'])}, "
    r2 += "" if fit["r2_linear"] is None else f"R² of the linear fit {share_text(fit['r2_linear'])}, "
    checkpoints = f"{fit['checkpoints']} checkpoint{'' if fit['checkpoints'] == 1 else 's'}"
    return (
        f"Rule {fit['rule']}, memorized below perplexity {fit['memorized_below']:.4f}, over {checkpoints} of "
        f"{printable(fit['run'])}: {r2}mean absolute error {share_text(fit['mae'])}."
    )


def calibrations_table(calibrations: list[CalibrationReply]) -> Table:
    """One line per calibration: what it holds for, and how well it forecasts runs that it has not seen."""
    table = new_table(
        "calibration", "runs", "memorized below", "R² left out", "half width", left=("rule", "model", "task", "created")
    )
    for one in calibrations:
        table.add_row(
            Text(printable(one.name)),
            str(len(one.jobs)),
            f"{one.memorized_below:.4f}",
            share_text(one.left_out.r2_identity),
            share_text(one.half_width),
            one.rule,
            Text(printable(one.setting.model)),
            Text(printable(one.setting.task)),
            f"{one.created_at:%Y-%m-%d %H:%M}",
        )
    return table


def stored_calibration_text(calibration: CalibrationReply) -> str:
    """What it says of its threshold, and what it holds for."""
    found = {
        **calibration.model_dump(),
        **calibration.fit.model_dump(),
        "loro_r2_identity": calibration.left_out.r2_identity,
        "loro_mae": calibration.left_out.mae,
    }
    setting = calibration.setting
    held = f"For model {setting.model}, task {setting.task}, grader {setting.grader}, span {setting.span}, "
    return f"{calibration_text(found, rule=calibration.rule)}\n{printable(held)}template {printable(setting.template)}."
