"""Test accuracy from a run's training signal: a number with an interval, or a refusal with the reason."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from premem.forecasting.calibration import Calibration
from premem.forecasting.rules import scores
from premem.forecasting.runs import ScoredRun

LEAST_R2 = 0.5
"""On runs left out: under it, a calibration explains so little that its forecasts are refused."""
SPAN = "the target's tokens after the longest prefix that it shares with the prompt"
"""The span rule of premem's own workers."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a calibration holds for, and nothing beyond. A job that differs in any of it cannot be forecast."""

    model: str
    """The model family: architecture and size."""
    task: str
    grader: str
    """Name and version."""
    template: str
    """How prompt and target are rendered."""
    span: str
    """Which tokens the perplexity is taken over."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Test accuracy of one checkpoint, with a 90% interval; all None where it is refused."""

    checkpoint: str
    accuracy: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no forecast."""

    reason: str


def forecast(
    run: ScoredRun, calibration: Calibration | None, *, setting: Setting, calibrated_for: Setting | None
) -> list[Forecast] | Refusal:
    """One forecast per checkpoint. An uncalibrated or badly calibrated one is refused, never shown as a number."""
    if calibration is None or calibrated_for is None:
        return Refusal(
            "no calibration: score several runs of this model and task with a test set, and calibrate on them"
        )
    other = [part.name for part in fields(Setting) if getattr(setting, part.name) != getattr(calibrated_for, part.name)]
    if other:
        differences = ", ".join(
            f"{name} ({getattr(calibrated_for, name)!r}, here {getattr(setting, name)!r})" for name in other
        )
        return Refusal(f"the calibration was made for another {differences}; a threshold does not carry over")
    if not calibration.left_out.r2_identity >= LEAST_R2:
        return Refusal(
            f"the calibration does not hold on runs it has not seen: leaving one run out, R² on y = x is "
            f"{calibration.left_out.r2_identity:.3f}"
        )
    mean_C = np.nanmean(scores(run, memorized_below=calibration.memorized_below, rule=calibration.rule), axis=1)
    return [
        Forecast(
            checkpoint=checkpoint,
            accuracy=float(mean),
            low=max(0.0, float(mean) - calibration.half_width),
            high=min(1.0, float(mean) + calibration.half_width),
        )
        for checkpoint, mean in zip(run.checkpoints, mean_C, strict=True)
    ]
