"""The threshold of memorization that best explains past runs, and how sure that is.

The claim to be calibrated: averaged over the training examples, pre-memorization accuracy equals the accuracy on unseen
questions, on the line y = x (Kang et al. 2024, figure 3). It holds in a narrow band of thresholds only.

Shapes: T thresholds, R runs, P points, one for every checkpoint of every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from premem.errors import InputError
from premem.forecasting.rules import scorer
from premem.forecasting.runs import ScoredRun
from premem.forecasting.thresholds import candidates

Floats = NDArray[np.float64]

GOOD_R2 = 0.9
COVERAGE = 0.9
LITTLE_MEMORIZED = 0.2
LEAST_POINTS = 3
"""Checkpoints with a test accuracy: through fewer, a line goes whatever they are, and R² says nothing."""
TELLING_SHARE = 0.05
"""Of examples memorized: with fewer, inside and outside of a subset cannot be told apart."""
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fit:
    """How well forecasts match the test accuracies."""

    r2_identity: float
    """1 − Σ(test − forecast)² / Σ(test − mean test)²: on the line y = x. It can be negative."""
    r2_linear: float
    """Of the best straight line: the squared correlation."""
    mae: float
    """Mean absolute error."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold, what it explains, and what it would have said of runs it had not seen."""

    rule: str
    memorized_below: float
    fit: Fit
    left_out: Fit
    """Each run forecast with the threshold that is best for the others."""
    interval: tuple[float, float]
    """Of the threshold: 90%, bootstrap over runs."""
    r2_interval: tuple[float, float]
    """Of R² on y = x, likewise."""
    band: tuple[float, float] | None
    """Thresholds around the chosen one that keep R² at 0.9 or more; None where even the chosen one does not."""
    half_width: float
    """A forecast's 90% interval reaches this far to both sides: conformal, from the errors on runs left out."""
    thresholds_T: Floats
    r2_T: Floats
    forecast_P: Floats
    test_P: Floats
    run_P: tuple[str, ...]
    checkpoint_P: tuple[str, ...]
    warnings: tuple[str, ...]


def fit(forecast_P: Floats, test_P: Floats) -> Fit:
    """NaN where the test accuracies do not differ: nothing is there to be explained."""
    total = float(np.square(test_P - test_P.mean()).sum())
    explained = 1 - float(np.square(test_P - forecast_P).sum()) / total if total > 0 else np.nan
    varies = total > 0 and float(np.ptp(forecast_P)) > 0
    correlation = float(np.corrcoef(forecast_P, test_P)[0, 1]) if varies else np.nan
    return Fit(explained, correlation**2, float(np.abs(test_P - forecast_P).mean()))


def explained(runs: Sequence[ScoredRun], *, memorized_below: float, rule: str = "paper") -> tuple[int, Fit] | None:
    """How many checkpoints have a test accuracy, and how well a given threshold explains those; None where none has.

    One run is enough, since nothing is chosen; what it says of other runs, `calibrate` tells of several. Both R² are NaN
    under LEAST_POINTS checkpoints.
    """
    points = [np.flatnonzero(~np.isnan(run.test_accuracy_C)) for run in runs]
    forecast_P = forecasts(runs, np.array([memorized_below]), rule=rule, points=points)[0]
    test_P = np.concatenate([run.test_accuracy_C[kept] for run, kept in zip(runs, points, strict=True)])
    if not test_P.size:
        return None
    found = fit(forecast_P, test_P)
    return test_P.size, found if test_P.size >= LEAST_POINTS else replace(found, r2_identity=np.nan, r2_linear=np.nan)


def calibrate(
    runs: Sequence[ScoredRun], *, rule: str = "paper", memorized_below: float | None = None, seed: int = 0
) -> Calibration:
    """The threshold that leaves the least squared error, or what a given one explains.

    Checkpoints without a test accuracy are left out. Raises InputError for a single run: on one run almost any threshold
    can look right (R² from −15.8 to 0.954 on the authors' runs).
    """
    if len(runs) < 2:
        raise InputError("calibration needs at least two runs that differ in learning rate; one run is not enough")
    sampled: list[Indices] = [np.flatnonzero(~np.isnan(run.test_accuracy_C)) for run in runs]
    without = [run.name for run, points in zip(runs, sampled, strict=True) if not points.size]
    if without:
        raise InputError(f"no checkpoint of {without[0]} has a test accuracy: score it with a test set")
    thresholds_T = (
        candidates(np.concatenate([run.perplexity_CE.ravel() for run in runs]))
        if memorized_below is None
        else np.array([memorized_below])
    )
    forecast_TP = forecasts(runs, thresholds_T, rule=rule, points=sampled)
    test_P = np.concatenate([run.test_accuracy_C[points] for run, points in zip(runs, sampled, strict=True)])
    group_P = np.repeat(np.arange(len(runs)), [len(points) for points in sampled])
    error_TR = _squared_errors(forecast_TP, test_P, group_P)
    chosen = int(error_TR.sum(axis=1).argmin())
    left_out_P, half_width = _leaving_one_run_out(forecast_TP, test_P, group_P, error_TR)
    spread = float(np.square(test_P - test_P.mean()).sum())
    r2_T = 1 - error_TR.sum(axis=1) / spread if spread > 0 else np.full(len(thresholds_T), np.nan)
    interval, r2_interval = _bootstrap(thresholds_T, forecast_TP, test_P, group_P, error_TR, seed=seed)
    return Calibration(
        rule=rule,
        memorized_below=float(thresholds_T[chosen]),
        fit=fit(forecast_TP[chosen], test_P),
        left_out=fit(left_out_P, test_P),
        interval=interval,
        r2_interval=r2_interval,
        band=_band(thresholds_T, r2_T, chosen),
        half_width=half_width,
        thresholds_T=thresholds_T,
        r2_T=r2_T,
        forecast_P=forecast_TP[chosen],
        test_P=test_P,
        run_P=tuple(run.name for run, points in zip(runs, sampled, strict=True) for _ in points),
        checkpoint_P=tuple(
            run.checkpoints[c] for run, points in zip(runs, sampled, strict=True) for c in points.tolist()
        ),
        warnings=_warnings(runs, float(thresholds_T[chosen]), r2_T[chosen], fixed=memorized_below is not None),
    )


def forecasts(runs: Sequence[ScoredRun], thresholds_T: Floats, *, rule: str, points: Sequence[Indices]) -> Floats:
    """T × P: the mean score at every threshold, at the named checkpoints of every run."""
    by_run = []
    for run, kept in zip(runs, points, strict=True):
        score = scorer(run, rule=rule)
        by_run.append(np.stack([np.nanmean(score(float(below)), axis=1)[kept] for below in thresholds_T]))
    return np.concatenate(by_run, axis=1)


def _squared_errors(forecast_TP: Floats, test_P: Floats, group_P: Indices) -> Floats:
    """T × R: each run's sum of squared errors at each threshold."""
    error_TP = np.square(forecast_TP - test_P)
    return np.stack([error_TP[:, group_P == group].sum(axis=1) for group in range(group_P.max() + 1)], axis=1)


def _leaving_one_run_out(
    forecast_TP: Floats, test_P: Floats, group_P: Indices, error_TR: Floats
) -> tuple[Floats, float]:
    """Every point forecast with the threshold of the other runs, and the half width that covers 90% of such errors."""
    total_T = error_TR.sum(axis=1)
    left_out_P = np.empty_like(test_P)
    for group in range(error_TR.shape[1]):
        best = int((total_T - error_TR[:, group]).argmin())
        left_out_P[group_P == group] = forecast_TP[best, group_P == group]
    error_P = np.abs(left_out_P - test_P)
    rank = min(1.0, np.ceil((len(error_P) + 1) * COVERAGE) / len(error_P))
    return left_out_P, float(np.quantile(error_P, rank))


def _bootstrap(
    thresholds_T: Floats,
    forecast_TP: Floats,
    test_P: Floats,
    group_P: Indices,
    error_TR: Floats,
    *,
    seed: int,
    draws: int = 1000,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """90% intervals of the chosen threshold and of its R², over draws of whole runs: their checkpoints hang together."""
    random = np.random.default_rng(seed)
    runs = error_TR.shape[1]
    points_R = [np.flatnonzero(group_P == group) for group in range(runs)]
    below, r2 = [], []
    for _ in range(draws):
        drawn: list[int] = random.integers(runs, size=(runs,)).tolist()
        chosen = int(error_TR[:, drawn].sum(axis=1).argmin())
        points = np.concatenate([points_R[group] for group in drawn])
        below.append(thresholds_T[chosen])
        r2.append(fit(forecast_TP[chosen, points], test_P[points]).r2_identity)
    tails = [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]
    low, high = np.quantile(below, tails)
    r2_low, r2_high = np.nanquantile(r2, tails) if not np.isnan(r2).all() else (np.nan, np.nan)
    return (float(low), float(high)), (float(r2_low), float(r2_high))


def _band(thresholds_T: Floats, r2_T: Floats, chosen: int) -> tuple[float, float] | None:
    if not r2_T[chosen] >= GOOD_R2:
        return None
    low = high = chosen
    while low > 0 and r2_T[low - 1] >= GOOD_R2:
        low -= 1
    while high + 1 < len(r2_T) and r2_T[high + 1] >= GOOD_R2:
        high += 1
    return float(thresholds_T[low]), float(thresholds_T[high])


def _warnings(runs: Sequence[ScoredRun], memorized_below: float, r2: float, *, fixed: bool) -> tuple[str, ...]:
    warnings = []
    rates = {run.learning_rate for run in runs}
    if rates == {None}:
        warnings.append("the runs' learning rates are not known; calibrate on runs that differ in learning rate")
    elif len(rates) == 1:
        warnings.append("all runs have the same learning rate: the threshold may not hold for another one")
    warnings += doubts(runs, memorized_below)
    if not r2 >= GOOD_R2:
        which = "the given threshold" if fixed else "even the best threshold"
        warnings.append(f"{which} reaches R² {r2:.3f} on y = x, under {GOOD_R2}")
    if len(runs) < 4:
        warnings.append(f"only {len(runs)} runs: the interval rests on little")
    return tuple(warnings)


def doubts(runs: Sequence[ScoredRun], memorized_below: float) -> list[str]:
    """Warnings of what makes runs unfit to judge a threshold by, however many they are."""
    warnings = []
    if all(float((run.perplexity_CE[-1] < memorized_below).mean()) < LITTLE_MEMORIZED for run in runs):
        warnings.append(
            f"no run memorizes: under {LITTLE_MEMORIZED:.0%} of the examples are memorized at the end of each, "
            "so the threshold explains little"
        )
    sizes = sorted({run.test_examples for run in runs if run.test_examples is not None})
    if len(sizes) > 1:
        warnings.append(
            f"the runs were tested on different numbers of questions ({', '.join(map(str, sizes))}): a threshold of one "
            "task does not carry over to another, so calibrate on runs of one task only"
        )
    warnings += [doubt for run in runs if (doubt := doubtful_subset(run, memorized_below)) is not None]
    return warnings


def doubtful_subset(run: ScoredRun, memorized_below: float) -> str | None:
    """A warning where a run on a part of its data memorized, at its end, much the same share of what it never saw."""
    if run.untrained_perplexity_CU is None:
        return None
    inside = float((run.perplexity_CE[-1] < memorized_below).mean())
    outside = float((run.untrained_perplexity_CU[-1] < memorized_below).mean())
    if inside < TELLING_SHARE or outside <= inside / 2:
        return None
    return (
        f"{run.name}: as many examples are memorized outside of its subset as inside ({outside:.1%} and {inside:.1%}): "
        "it may have been trained on others than those named"
    )
