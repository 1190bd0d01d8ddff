"""What people see of jobs and scores in a terminal: the same tables in every command and in the demo."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from premem.cli.exits import duration
from premem.wire.bodies import ExampleDetail, ExamplePage, IntervalReply, Job, ThresholdReply
from premem.wire.calibrations import CalibrationReply
from premem.wire.curation import Acquisition, Lineage, Overlap, Selection
from premem.wire.estimates import Between, Estimate, WorkerReply
from premem.wire.reports import ChangesReply, JobReport, LowReply, RegradeReply, RobustnessReply

PLAIN_WIDTH = 200
"""Characters per line where there is no terminal to ask for its width."""


def printable(text: str, *, lines: bool = False) -> str:
    r"""`text` with every character that a terminal would obey spelled out, as \x1b; line breaks too unless `lines`.

    What a model wrote is data: it must not move the cursor, set the title or turn the reading direction around.
    """
    kept = "\n\t" if lines else ""
    return "".join(character if character in kept else _spelled(character) for character in text)


def _spelled(character: str) -> str:
    if character == "\n":
        return "⏎ "
    # Cc control, Cf format (bidirectional overrides), Cs lone surrogates, Zl and Zp separators
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
        return character.encode("unicode_escape").decode()
    return character


def show(*parts: Table | Text | str, console: Console | None = None) -> None:
    """Print to stdout: drawn on a terminal, aligned plain text elsewhere."""
    console = console or Console(soft_wrap=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    for part in parts:
        if isinstance(part, Table) and not console.is_terminal:
            part.box = None
            part.pad_edge = False
            for column in part.columns:
                column.header = str(column.header).replace("\n", " ")
        console.print(Text(part) if isinstance(part, str) else part, highlight=False)


def report_table(report: JobReport) -> Table:
    """One line per checkpoint: train accuracy, shares memorized and copied, pre-memorization and test accuracy, forecast."""
    forecast = ("forecast of test accuracy",) if any(line.forecast for line in report.checkpoints) else ()
    copied = ("copied",) if any(line.copied is not None for line in report.checkpoints) else ()
    table = _table(
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
        told = line.forecast and f"{line.forecast.accuracy:.3f} ({line.forecast.low:.3f} to {line.forecast.high:.3f})"
        table.add_row(
            Text(printable(line.checkpoint)),
            f"{line.examples:,}",
            _share(line.train_accuracy),
            _percent(line.memorized),
            *(("" if line.copied is None else _percent(line.copied),) if copied else ()),
            _share(line.pre_memorization_accuracy),
            _share(line.test_accuracy),
            *((told or "",) if forecast else ()),
        )
    return table


def show_report(report: JobReport, *, console: Console | None = None) -> None:
    """The report's table, what its threshold rests on, what it compares with, and what is to be known about it."""
    skipped = [f"{number:,} x {reason}" for reason, number in report.skipped_reasons.items()]
    show(report_table(report), threshold_text(report.threshold), console=console)
    if report.skipped:
        show(printable(f"Skipped training examples: {report.skipped:,} ({'; '.join(skipped)})"), console=console)
    if report.low is not None:
        show(*low_lines(report.low), console=console)
    if report.robustness:
        show(robustness_table(report.robustness), console=console)
    if report.regrade is not None:
        show(*regrade_lines(report.regrade), console=console)
    if report.changes is not None:
        show(*changes_lines(report.changes), console=console)
    for warning in report.warnings:
        show(printable(f"Warning: {warning}"), console=console)


def selection_lines(selection: Selection, *, most: int) -> list[Table | Text | str]:
    """How many qualified, what they have in common, and the first of them beside the first of the control."""
    lineage = selection.lineage
    lines: list[Table | Text | str] = [
        f"policy {lineage.policy}: {selection.qualified:,} examples qualified, {selection.total:,} are chosen, and as many "
        "drawn at random for the control"
    ]
    if selection.traits:
        traits = _table("trait", "chosen", "rest", "effect")
        for trait in selection.traits:
            traits.add_row(trait.name, f"{trait.chosen:.3g}", f"{trait.rest:.3g}", f"{trait.effect:+.2f}")
        lines.append(traits)
    rows = _table(
        "", "chosen row", "pre-memorization accuracy", "mean accuracy", "control row", "pre-memorization accuracy"
    )
    for place, (chosen, control) in enumerate(zip(selection.chosen[:most], selection.control[:most], strict=True)):
        numbers = (f"{chosen.score:.2f}", _share(chosen.mean_accuracy), str(control.row), f"{control.score:.2f}")
        rows.add_row(str(place), str(chosen.row), *numbers)
    if selection.chosen:
        lines.append(rows)
    return [*lines, threshold_text(lineage.threshold), *(printable(f"Note: {note}") for note in selection.notes)]


def overlap_lines(overlap: Overlap) -> list[Table | Text | str]:
    """How many examples two policies both choose, how many only one of them, and the rows of the first of each."""
    table = _table("chosen by", "examples", left=("rows, the best first",))
    for name, part in (
        ("both", overlap.both),
        (f"only {_policy_text(overlap.lineage)}", overlap.only_one),
        (f"only {_policy_text(overlap.other)}", overlap.only_other),
    ):
        rows = ", ".join(str(one.row) for one in part.first)
        more = ", …" if rows and len(part.first) < part.total else ""
        table.add_row(name, f"{part.total:,}", rows + more)
    return [table, threshold_text(overlap.lineage.threshold)]


def _policy_text(lineage: Lineage) -> str:
    """A policy with what it goes by, so that two of the same name are told apart."""
    told = {
        "lowest": f" below {lineage.below:g}",
        "band": f" from {lineage.above:g} up to {lineage.below:g}",
        "mean": f" below {lineage.below:g}",
        "random": f" with seed {lineage.seed}",
    }
    most = "" if lineage.budget is None else f", {lineage.budget:,} at most"
    return f"{lineage.policy}{told.get(lineage.policy, '')}{most}"


def estimate_lines(found: Estimate) -> list[str]:
    """What a job will cost, and what that rests on."""

    def between(one: Between, told: Callable[[float], str]) -> str:
        low, high = told(one.low), told(one.high)
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
    table = _table("worker", left=("engine", "device", "asked last"))
    for one in workers:
        runs = (printable(one.engine or "none"), printable(one.device or "–"))
        table.add_row(Text(printable(one.name)), *runs, f"{one.seen_at:%H:%M:%S}")
    return table


def acquisition_lines(found: Acquisition, *, most: int) -> list[Table | Text | str]:
    """The candidates that are most alike, each with the low example that it is nearest to."""
    table = _table("pool row", "likeness", "similarity", left=("candidate", "nearest low example"))
    for candidate in found.candidates[:most]:
        shown = candidate.columns.get("question") or candidate.columns.get("prompt") or candidate.id
        near = Text(_shortened(printable(candidate.nearest.question), 60))
        numbers = (_share(candidate.likeness), f"{candidate.similarity:.2f}")
        table.add_row(str(candidate.row), *numbers, Text(_shortened(printable(str(shown)), 60)), near)
    return [
        f"{len(found.candidates):,} candidates like {found.low:,} low examples, by {found.by}; {found.left_out:,} rows of the "
        "pool were trained on already",
        table,
        *(printable(f"Note: {note}") for note in found.notes),
    ]


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
    table = _table("prompt", "pre-memorization accuracy", "examples", "accuracy as it is", "lost", "90% interval")
    for one in found:
        for drop in [one.overall, *one.bands]:
            if drop.examples:
                whole = drop is one.overall
                band = "all" if whole else f"{drop.low:g} to {drop.high:g}"
                numbers = (f"{drop.examples:,}", _share(drop.baseline), f"{drop.drop:+.3f}", _signed(drop.interval))
                table.add_row(Text(printable(one.perturbation) if whole else ""), band, *numbers)
    return table


def regrade_lines(regrade: RegradeReply, *, most: int = 5) -> list[Table | Text | str]:
    """Where the two graders disagree, and some answers that they see differently."""
    table = _table("before", "now", "answers", left=())
    for line in regrade.table:
        table.add_row(line.before, line.after, f"{line.answers:,}")
    lines: list[Table | Text | str] = [
        f"{regrade.before.name} and {regrade.after.name} disagree on {regrade.disagreements:,} of {regrade.answers:,} answers",
        table,
    ]
    for one in regrade.examples[:most]:
        before, after = (_shortened(found or "nothing", 40) for found in (one.before_extracted, one.after_extracted))
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
            f"(change {changes.kept_after - changes.kept_before:+.3f}, 90% interval {_signed(changes.change)}); "
            f"of {changes.low_before:,} low ones {changes.low_solved:,} are no longer low"
        )
    if changes.added_score is not None:
        lines.append(f"  added: pre-memorization accuracy {changes.added_score:.3f}")
    if changes.test_before is not None and changes.test_after is not None:
        lines.append(f"  test accuracy {changes.test_before:.3f} then, {changes.test_after:.3f} now")
    return lines + [printable(f"  note: {note}") for note in changes.notes]


def examples_table(page: ExamplePage) -> Table:
    """One line per example, in rank order, with its interval and its accuracy at each checkpoint; * where memorized."""
    numbers = (
        "rank",
        "row",
        "pre-memorization\naccuracy",
        "90%\ninterval",
        "mean\naccuracy",
        "accuracy per\ncheckpoint",
    )
    table = _table(*numbers, left=("question",))
    for item in page.items:
        history = " ".join(
            f"{'  –' if accuracy is None else f'{accuracy:.1f}'}{'*' if memorized else ' '}"
            for accuracy, memorized in zip(item.accuracy, item.memorized, strict=True)
        )
        table.add_row(
            str(item.rank),
            str(item.row),
            _share(item.pre_memorization_accuracy),
            _interval(item.interval),
            _share(item.mean_accuracy),
            history,
            Text(_shortened(printable(item.question), 100)),
        )
    return table


def checkpoints_table(job: Job) -> Table:
    """One line per checkpoint of a job, with how far it is."""
    table = _table("checkpoint", "tasks done", left=("state", "error"))
    for line in job.checkpoints:
        table.add_row(
            Text(printable(line.name)),
            f"{line.tasks.completed} of {line.tasks.total}",
            line.state,
            Text(printable(line.error or "")),
        )
    return table


def jobs_table(jobs: list[Job]) -> Table:
    """One line per job."""
    table = _table("job", "checkpoints", "examples done", left=("state", "created", "name"))
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


def recorded_table(found: dict[str, Any]) -> Table:
    """One line per recorded run and checkpoint."""
    table = _table(
        "run", "checkpoint", "examples", "train accuracy", "memorized", "pre-memorization accuracy", "test accuracy"
    )
    for run in found["runs"]:
        for line in run["checkpoints"]:
            table.add_row(
                Text(printable(run["run"])),
                Text(printable(line["checkpoint"])),
                f"{line['examples']:,}",
                _share(line["train_accuracy"]),
                _percent(line["memorized"]),
                _share(line["pre_memorization_accuracy"]),
                _share(line["test_accuracy"]),
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
        f"In sample: R² on y = x {_share(calibration['r2_identity'])} (90% interval {_share(r2_low)} to "
        f"{_share(r2_high)}), R² of the linear fit {_share(calibration['r2_linear'])}, mean absolute error "
        f"{_share(calibration['mae'])}.\n"
        f"Leaving one run out: R² on y = x {_share(calibration['loro_r2_identity'])}, mean absolute error "
        f"{_share(calibration['loro_mae'])}; a forecast's 90% interval is ± {_share(calibration['half_width'])}."
    )


def calibrations_table(calibrations: list[CalibrationReply]) -> Table:
    """One line per calibration: what it holds for, and how well it forecasts runs that it has not seen."""
    table = _table(
        "calibration", "runs", "memorized below", "R² left out", "half width", left=("rule", "model", "task", "created")
    )
    for one in calibrations:
        table.add_row(
            Text(printable(one.name)),
            str(len(one.jobs)),
            f"{one.memorized_below:.4f}",
            _share(one.left_out.r2_identity),
            _share(one.half_width),
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


def threshold_text(threshold: ThresholdReply) -> str:
    """Where the line of memorization was drawn, what that rests on, and whether a forecast may rest on it."""
    drawn = (
        "not drawn yet" if threshold.memorized_below is None else f"perplexity below {threshold.memorized_below:.4f}"
    )
    return printable(
        f"Memorized: {drawn} ({threshold.basis}: {threshold.source}). Forecast {threshold.forecast}: {threshold.forecast_reason}"
    )


def example_text(example: ExampleDetail) -> Text:
    """One example in full: question, reference, and every answer of every checkpoint with its verdict."""
    text = Text()
    text.append(f"row {example.row}, id {printable(example.id)}, rank {example.rank}\n", style="bold")
    text.append(
        f"pre-memorization accuracy {example.pre_memorization_accuracy:.2f}"
        f"{f' (90% interval {_interval(example.interval)})' if example.interval else ''}, "
        f"{'' if example.mean_accuracy is None else f'mean accuracy {example.mean_accuracy:.2f}, '}"
        f"{'' if example.last_accuracy is None else f'last accuracy {example.last_accuracy:.2f}, '}"
        f"{f'memorized at {printable(example.memorized_at)}' if example.memorized_at else 'never memorized'}\n\n"
    )
    _append_section(text, "Question", example.question)
    _append_section(text, "Reference", example.trace)
    if example.final_answer is not None:
        _append_section(text, "Final answer", example.final_answer)
    for seen in example.checkpoints:
        about = [
            "" if seen.perplexity is None else f"perplexity {seen.perplexity:.4f}",
            "memorized" if seen.memorized else "",
            "" if seen.accuracy is None else f"accuracy {seen.accuracy:.2f}",
            f"{seen.copied:.0%} of the answers copied" if seen.copied else "",
        ]
        text.append(f"{printable(seen.checkpoint)}: {', '.join(filter(None, about))}\n", style="bold")
        for answer in seen.answers:
            extracted = "" if answer.extracted is None else f" ({printable(answer.extracted)})"
            cut = "" if answer.finished else ", cut off at the token limit"
            style = "green" if answer.verdict == "right" else "red"
            like = "" if answer.similarity is None else f", {answer.similarity:.0%} like the reference"
            text.append(f"  {answer.verdict}{extracted}{cut}{like}\n", style=style)
            text.append(_indented(answer.text, "    "))
        text.append("\n")
    return text


def _append_section(text: Text, title: str, content: str) -> None:
    text.append(f"{title}\n", style="bold")
    text.append(_indented(content, "  "))
    text.append("\n")


def _indented(content: str, indent: str) -> str:
    return "".join(f"{indent}{line}\n" for line in printable(content, lines=True).split("\n"))


def _table(*right: str, left: tuple[str, ...] = ()) -> Table:
    """A table whose first column and `left` are text, the others numbers."""
    table = Table(box=box.SIMPLE_HEAD)
    for number, name in enumerate(right):
        table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for name in left:
        table.add_column(name, overflow="fold")
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _interval(interval: IntervalReply | None) -> str:
    return "" if interval is None else f"{interval.low:.2f} to {interval.high:.2f}"


def _signed(interval: IntervalReply | None) -> str:
    return "" if interval is None else f"{interval.low:+.3f} to {interval.high:+.3f}"


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _shortened(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
