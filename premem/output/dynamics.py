"""Learning dynamics, as a terminal shows them."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from premem.dynamics.long_format import Part, PartOfProbe, RecordedProbe
from premem.dynamics.recorded import ARGMAX, AsLogged, Firings, PerPrompt, RecordedLog
from premem.dynamics.series import Series
from premem.dynamics.statistics import Change, Verdict
from premem.output.console import new_table
from premem.output.text import percent_text, printable, share_text

PARTS: dict[Part, str] = {"train": "trained", "holdout": "held-out"}
VERDICTS = {
    "squeeze": "squeeze: chosen fell while the likeliest tokens rose, so its probability went to other text",
    "flatten": "flatten: chosen fell and the likeliest tokens did not rise, so the distributions became flatter",
    "displacement": "displacement: chosen fell, without the other signs of a squeeze or of flattening",
    "none": "none: no fall of chosen that this many pairs can show",
    "refused": "refused: too few prompts for a verdict",
}


def families_table(series: dict[str, Series]) -> Table:
    """One line per family: where it starts, peaks, bottoms and ends, nats per response, and at which evaluation."""
    table = new_table("family", "start", "highest", "at", "lowest", "at", "end", "change")
    for name, found in series.items():
        table.add_row(
            Text(printable("argmax column" if name == ARGMAX else name)),
            f"{found.start:.2f}",
            f"{found.max:.2f}",
            str(found.max_at),
            f"{found.min:.2f}",
            str(found.min_at),
            f"{found.end:.2f}",
            f"{found.end - found.start:+.2f}",
        )
    return table


def log_text(log: RecordedLog, found: AsLogged | None, per_prompt: PerPrompt | None = None) -> str:
    """What a log in the authors' format shows, and what it cannot."""
    prompts = "held-out" if log.held_out else "trained"
    told = [f"{printable(log.name)}: {log.evaluations} evaluations on {prompts} prompts, in nats per response."]
    if per_prompt is None:
        told.append("The log holds means over prompts, so nothing here has an interval, and there is no verdict.")
    else:
        changes = (f"{printable(name)} {_change_text(change)}" for name, change in per_prompt.changes.items())
        told.append(f"Change from the first to the last evaluation, with its 95% interval: {'; '.join(changes)}.")
    if found is None:
        told.append("Without an argmax column, where the probability of chosen went cannot be told.")
    elif log.argmax_refused:
        told.append("Without an argmax column of chosen, where the probability of chosen went cannot be told.")
    else:
        told.append(
            f"Correlation of chosen with argmax over evaluations: {_or_never(found.correlation)}, in the second half "
            f"{_or_never(found.correlation_second_half)}."
        )
        three = "rejected too, " if "rejected" in log.families else ""
        told.append(f"Chosen fell, {three}while argmax rose, by their means:")
        told += [f"  since the start: {_firings_text(found.since_start, log.evaluations)}"]
        told += [f"  since the best chosen so far: {_firings_text(found.since_best, log.evaluations)}"]
    return "\n".join(told)


def _firings_text(found: Firings, evaluations: int) -> str:
    if not found.at:
        return f"at none of {evaluations} evaluations"
    last = "at the last one too" if found.last_fires else "not at the last one"
    return (
        f"at {len(found.at)} of {evaluations} evaluations, first at {found.at[0]}, {last}; {len(found.counted)} come right "
        "behind another one and count"
    )


def _or_never(value: float | None) -> str:
    return "none, since one of them never changes" if value is None else f"{value:+.2f}"


def probe_table(probe: RecordedProbe, part: Part) -> Table:
    """One line per checkpoint: mean changes per token since the reference with their 95% intervals, and the verdicts."""
    found = probe.parts[part]
    table = new_table(
        f"{PARTS[part]} prompts",
        "chosen",
        "rejected",
        "argmax",
        "chosen down, argmax up",
        "margin accuracy",
        left=("verdict", "since the best"),
    )
    accuracy: tuple[float | None, ...] = found.margin_accuracy or (None,) * len(found.evaluations)
    for name, one, share in zip(probe.checkpoints[1:], found.evaluations, accuracy, strict=True):
        verdict, since_best = one.since_reference, one.since_best
        best = "" if since_best is None or since_best.name == "none" else since_best.name
        table.add_row(
            Text(printable(name)),
            _change_text(verdict.chosen),
            _change_text(verdict.rejected),
            _change_text(verdict.argmax),
            "" if verdict.chosen_down_argmax_up is None else percent_text(verdict.chosen_down_argmax_up),
            share_text(share),
            verdict.name,
            f"{best}{' (not counted yet)' if best in ('squeeze', 'flatten', 'displacement') and not one.since_best_counts else ''}",
        )
    return table


def _change_text(change: Change | None) -> str:
    return "" if change is None else f"{change.mean:+.3f} ({change.low:+.3f} to {change.high:+.3f})"


def verdict_text(part: Part, found: PartOfProbe) -> str:
    """The verdict at the last checkpoint in words, and what could not have been seen."""
    last = found.evaluations[-1].since_reference
    return f"On {PARTS[part]} prompts, {VERDICTS[last.name]}. {_power_text(last)}"


def _power_text(found: Verdict) -> str:
    skipped = (
        f" Not scored, so its part of the rule was skipped: {', '.join(found.left_out)}." if found.left_out else ""
    )
    return (
        f"A fall smaller than {found.smallest_visible_fall:.3f} per token cannot be seen with {found.pairs:,} pairs "
        f"({found.prompts:,} prompts).{skipped}"
    )


def probe_text(probe: RecordedProbe) -> str:
    """The verdicts at the last checkpoint, the best checkpoint, and what to try."""
    told = [verdict_text(part, found) for part, found in probe.parts.items()]
    if probe.train_only():
        told.append("Chosen holds on the trained prompts alone (train_only): look at the held-out ones.")
    if (best := probe.best_checkpoint()) is not None:
        told.append(f"Best checkpoint by held-out prompts: {printable(best)}.")
    told += [f"To try: {line.action} ({line.measured})" for line in probe.advice()]
    return "\n".join(told)
