"""How well each rule forecasts runs that were left out, on the authors' recorded runs; writes docs/rules.md.

python benchmarks/rules.py ../shared/data/recorded-runs
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import get_args

from premem.forecasting.calibration import Calibration, calibrate
from premem.forecasting.recorded_runs import read_runs
from premem.forecasting.rules import RULES
from premem.forecasting.runs import ScoredRun
from premem.forecasting.thresholds import ThresholdFrom, without_labels

PAGE = Path(__file__).parents[1] / "docs" / "rules.md"
HEAD = """# Rules on the authors' recorded runs

Written by `benchmarks/rules.py` on {day}: {runs} runs of Llama3 8B on GSM8K with {checkpoints} checkpoints, recorded by
the authors of the metric. The threshold is the one with the least squared error; *left out* forecasts each run with the
threshold of the others.

| rule | memorized below | R², y = x | R² left out | mean absolute error left out | 90% interval of a forecast |
| --- | --- | --- | --- | --- | --- |
"""
WITHOUT_LABELS = """
## Thresholds without test labels

Fallbacks where no run has a test set (`premem recorded DIR --threshold-from NAME`), each held against the test
accuracies it never saw. `calibrated` is the threshold that the test accuracies themselves choose.
{parts} of the {runs} runs was trained on a part of the questions, so the first two rest on it alone.
The quantiles were chosen on runs like these: their rows show that they fit here, not that they will elsewhere.

| threshold from | memorized below | R², y = x | mean absolute error |
| --- | --- | --- | --- |
"""


def line(rule: str, calibration: Calibration) -> str:
    return (
        f"| `{rule}` | {calibration.memorized_below:.4f} | {calibration.fit.r2_identity:.3f} | "
        f"{calibration.left_out.r2_identity:.3f} | {calibration.left_out.mae:.4f} | ± {calibration.half_width:.3f} |"
    )


def fallback(name: str, runs: list[ScoredRun], memorized_below: float) -> str:
    found = calibrate(runs, memorized_below=memorized_below).fit
    return f"| `{name}` | {memorized_below:.4f} | {found.r2_identity:.3f} | {found.mae:.4f} |"


def fallbacks(runs: list[ScoredRun], calibrated: float) -> str:
    parts = sum(run.untrained_accuracy_C is not None for run in runs)
    chosen = {name: without_labels(name, runs).memorized_below for name in get_args(ThresholdFrom)}
    lines = [fallback(name, runs, below) for name, below in {**chosen, "calibrated": calibrated}.items()]
    return WITHOUT_LABELS.format(parts=parts, runs=len(runs)) + "\n".join(lines) + "\n"


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data/recorded-runs")
    if not folder.is_dir():
        print(f"{folder} is not here: name the folder of the recorded runs; nothing was measured")
        return
    runs = read_runs(folder)
    calibrations = {rule: calibrate(runs, rule=rule) for rule in RULES}
    checkpoints = sum(len(run.checkpoints) for run in runs)
    head = HEAD.format(day=date.today().isoformat(), runs=len(runs), checkpoints=checkpoints)
    page = head + "\n".join(line(rule, calibration) for rule, calibration in calibrations.items()) + "\n"
    page += fallbacks(runs, calibrations["paper"].memorized_below)
    PAGE.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
