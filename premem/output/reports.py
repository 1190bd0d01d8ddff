"""What people see of jobs and scores in a terminal: the same tables in every command and in the demo."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from premem.output.console import new_table, show
from premem.output.text import duration, percent_text, printable, share_text, shortened, signed_text
from premem.wire.estimates import Between, Estimate, WorkerReply
from premem.wire.jobs import Job, ThresholdReply
from premem.wire.reports import ChangesReply, JobReport, LowReply, RegradeReply, RobustnessReply


def report_table(report: JobReport) -> Table:
    """One line per checkpoint: train accuracy, shares memorized and copied, pre-memorization and test accuracy, forecast."""
    forecast = ("forecast of test accuracy",) if any(line.forecast for line in report.checkpoints) else ()
    copied = ("copied",) if any(line.copied is not None for line in report.checkpoints) else ()
    table = new_table(
        "checkpoint",
        "examples",
        "train accuracy",
        "memorized",
        *copied,
        "pre-memorization accuracy",
        "test accuracy",
        *forecast,
    )
    for line in report.checkpoints:
        forecast_text = (
            line.forecast and f"{line.forecast.accuracy:.3f} ({line.forecast.low:.3f} to {line.forecast.high:.3f})"
        )
        table.add_row(
            Text(printable(line.checkpoint)),
            f"{line.examples:,}",
            share_text(line.train_accuracy),
            percent_text(line.memorized),
            *(("" if line.copied is None else percent_text(line.copied),) if copied else ()),
            share_text(line.pre_memorization_accuracy),
            share_text(line.test_accuracy),
            *((forecast_text or "",) if forecast else ()),
        )
    return table


def show_report(report: JobReport, *, console: Console | None = None) -> None:
    """Print a report."""
    show(*report_parts(report), console=console)


def report_parts(report: JobReport) -> list[Table | Text | str]:
    """The report's table, what its threshold rests on, what it compares with, and what is to be known about it."""
    parts: list[Table | Text | str] = [report_table(report), threshold_text(report.threshold)]
    if report.skipped:
        reasons = "; ".join(f"{number:,} x {reason}" for reason, number in report.skipped_reasons.items())
        parts.append(printable(f"Skipped training examples: {report.skipped:,} ({reasons})"))
    parts += low_lines(report.low)
    if report.robustness:
        parts.append(robustness_table(report.robustness))
    if report.regrade is not None:
        parts += regrade_lines(report.regrade)
    if report.changes is not None:
        parts += changes_lines(report.changes)
    return parts + [printable(f"Warning: {warning}") for warning in report.warnings]


def estimate_lines(found: Estimate) -> list[str]:
    """What a job will cost, and what that rests on."""

    def between(one: Between, spelled: Callable[[float], str]) -> str:
        low, high = spelled(one.low), spelled(one.high)
        return low if low == high else f"{low} to {high}"

    lines = [
        f"{found.examples:,} examples at {found.checkpoints} checkpoints, {found.tasks:,} tasks or more",
        f"{found.scored_tokens:,.0f} tokens to score, {between(found.answers, '{:,.0f}'.format)} answers of "
        f"{between(found.answer_tokens, '{:,.0f}'.format)} tokens to sample",
    ]
    if found.engine_seconds is not None:
        lines.append(f"{between(found.engine_seconds, duration)} of one engine")
    if found.seconds is not None:
        lines.append(f"{between(found.seconds, duration)} with the {found.workers} workers that are connected")
    if found.weight_bytes is not None:
        cache = found.cache_bytes
        beside = "besides the engine's cache" if cache is None else f"up to {cache / 1e9:,.3g} GB for keys and values"
        lines.append(f"{found.weight_bytes / 1e9:,.3g} GB of memory for the weights, {beside}")
    lines.append(f"{between(found.result_bytes, lambda n: f'{n / 1e6:,.3g} MB')} on the service's store")
    return [*lines, *(printable(f"Note: {note}") for note in found.notes)]


def workers_table(workers: list[WorkerReply]) -> Table:
    """One line per worker that is connected."""
    table = new_table("worker", left=("engine", "device", "asked last"))
    for one in workers:
        runs = (printable(one.engine or "none"), printable(one.device or "–"))
        table.add_row(Text(printable(one.name)), *runs, f"{one.seen_at:%H:%M:%S}")
    return table


def low_lines(low: LowReply, *, most: int = 3) -> list[str]:
    """How many examples are low, and the traits in which they differ most from the rest."""
    lines = [f"{low.examples:,} examples have a pre-memorization accuracy under {low.below:g}"]
    lines += [
        f"  {trait.name}: {trait.chosen:.3g} there, {trait.rest:.3g} in the rest (effect {trait.effect:+.2f})"
        for trait in low.traits[:most]
    ]
    return lines + [f"  {printable(note)}" for note in low.notes]


def robustness_table(found: list[RobustnessReply]) -> Table:
    """One line per perturbation and band of pre-memorization accuracy: the accuracy that it costs."""
    table = new_table("prompt", "pre-memorization accuracy", "examples", "accuracy as it is", "lost", "90% interval")
    for one in found:
        for drop in [one.overall, *one.bands]:
            if drop.examples:
                whole = drop is one.overall
                band = "all" if whole else f"{drop.low:g} to {drop.high:g}"
                numbers = (
                    f"{drop.examples:,}",
                    share_text(drop.baseline),
                    f"{drop.drop:+.3f}",
                    signed_text(drop.interval),
                )
                table.add_row(Text(printable(one.perturbation) if whole else ""), band, *numbers)
    return table


def regrade_lines(regrade: RegradeReply, *, most: int = 5) -> list[Table | Text | str]:
    """Where the two graders disagree, and some answers that they see differently."""
    table = new_table("before", "now", "answers", left=())
    for line in regrade.table:
        table.add_row(line.before, line.after, f"{line.answers:,}")
    lines: list[Table | Text | str] = [
        f"{regrade.before.name} and {regrade.after.name} disagree on {regrade.disagreements:,} of {regrade.answers:,} answers",
        table,
    ]
    for one in regrade.examples[:most]:
        before, after = (shortened(found or "nothing", 40) for found in (one.before_extracted, one.after_extracted))
        place = f"{one.checkpoint}, {one.kind} row {one.row}, sample {one.sample}"
        lines.append(printable(f"  {place}: {one.before} ({before}), now {one.after} ({after})"))
        lines.append(printable(f"    …{one.text[-160:].strip()}"))
    return lines


def changes_lines(changes: ChangesReply) -> list[str]:
    """What became of the examples of the round before, and of those that were added."""
    lines = [
        f"since job {changes.previous}: {changes.kept:,} examples kept, {changes.added:,} added, {changes.dropped:,} dropped"
    ]
    if changes.kept_before is not None and changes.kept_after is not None:
        lines.append(
            f"  kept: pre-memorization accuracy {changes.kept_before:.3f} then, {changes.kept_after:.3f} now "
            f"(change {changes.kept_after - changes.kept_before:+.3f}, 90% interval {signed_text(changes.change)}); "
            f"of {changes.low_before:,} low ones {changes.low_solved:,} are no longer low"
        )
    if changes.added_score is not None:
        lines.append(f"  added: pre-memorization accuracy {changes.added_score:.3f}")
    if changes.test_before is not None and changes.test_after is not None:
        lines.append(f"  test accuracy {changes.test_before:.3f} then, {changes.test_after:.3f} now")
    return lines + [printable(f"  note: {note}") for note in changes.notes]


def job_parts(job: Job, *, most: int | None = None) -> list[Table | Text | str]:
    """A job's state, how far it is, its threshold, and one line per checkpoint, of the first `most` where it is given."""
    counts = job.counts
    parts: list[Table | Text | str] = [
        f"{printable(job.id)}{f' ({printable(job.name)})' if job.name else ''}: {job.state}"
        f"{', open for more checkpoints' if job.open else ''}",
        f"{counts.examples:,} of {counts.examples_total:,} examples done ({counts.skipped:,} skipped), "
        f"{counts.samples:,} samples, {counts.tokens:,} tokens"
        f"{f', {counts.samples_saved:,} samples that need not be drawn' if counts.samples_saved else ''}"
        + ("" if job.seconds_left is None else f", about {duration(job.seconds_left)} left"),
    ]
    if job.tokens_per_second is not None:
        share = counts.cached_tokens / counts.prompt_tokens if counts.prompt_tokens else None
        cached = "" if share is None else f", {share:.0%} of the prompts' in its cache"
        parts.append(f"{job.tokens_per_second:,.0f} tokens/s of each engine{cached}")
    return [*parts, threshold_text(job.threshold), checkpoints_table(job, most=most)]


def checkpoints_table(job: Job, *, most: int | None = None) -> Table:
    """One line per checkpoint of a job, or of its first `most`, with how far it is."""
    table = new_table("checkpoint", "tasks done", left=("state", "error"))
    for line in job.checkpoints[:most]:
        table.add_row(
            Text(printable(line.name)),
            f"{line.tasks.completed} of {line.tasks.total}",
            line.state,
            Text(printable(line.error or "")),
        )
    return table


def jobs_table(jobs: list[Job]) -> Table:
    """One line per job."""
    table = new_table("job", "checkpoints", "examples done", left=("state", "created", "name"))
    for job in jobs:
        table.add_row(
            Text(printable(job.id)),
            str(len(job.checkpoints)),
            f"{job.counts.examples:,} of {job.counts.examples_total:,}",
            job.state,
            f"{job.created_at:%Y-%m-%d %H:%M}",
            Text(printable(job.name)),
        )
    return table


def threshold_text(threshold: ThresholdReply) -> str:
    """Where the line of memorization was drawn, what that rests on, and whether a forecast may rest on it."""
    drawn = (
        "not drawn yet" if threshold.memorized_below is None else f"perplexity below {threshold.memorized_below:.4f}"
    )
    return printable(
        f"Memorized: {drawn} ({threshold.basis}: {threshold.source}). Forecast {threshold.forecast}: {threshold.forecast_reason}"
    )
