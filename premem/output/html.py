"""One job's report as a single HTML file: no script, nothing fetched, everything that people wrote shown as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from premem.output.text import printable

if TYPE_CHECKING:
    from premem.wire.examples import ExampleDetail
    from premem.wire.jobs import Job
    from premem.wire.lineage import ExportLineage
    from premem.wire.reports import CheckpointReport, JobReport

SHOWN = 20
BINS = 20
ANSWER_CHARACTERS = 1_200
NAMES_SHOWN, NAME_CHARACTERS = 6, 18
"""Of checkpoints, under the axis."""
WIDTH, HEIGHT, MARGIN = 640, 240, 34
_STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --quiet: #5d6675; --line: #d9dee6; --card: #fff; --ground: #f5f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7eaf0; --quiet: #9aa4b5; --line: #333b49; --card: #1b212b; --ground: #12161d; }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 980px; padding: 24px; font: 15px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--ground) }
h1 { font-size: 24px; margin: 0 0 4px; overflow-wrap: anywhere } h2 { font-size: 17px; margin: 0 0 10px }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px 18px; margin: 16px 0 }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: 4px 10px 4px 0; vertical-align: top }
th { color: var(--quiet); font-weight: 500; border-bottom: 1px solid var(--line) }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 4px 0 10px; font: 13px/1.45 ui-monospace, monospace }
.quiet { color: var(--quiet) } .warn { border-left: 3px solid #c2571a; padding-left: 10px }
svg { width: 100%; height: auto; display: block } svg text { fill: var(--quiet); font: 11px system-ui, sans-serif }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin: 0 5px 0 14px }
details { border-top: 1px solid var(--line); padding: 8px 0 } summary { cursor: pointer; overflow-wrap: anywhere }
"""

Floats = NDArray[np.float64]


def page(job: Job, report: JobReport, score_E: Floats, lowest: Sequence[ExampleDetail], lineage: ExportLineage) -> str:
    """`score_E`: of all examples that have one; `lowest`: those that are shown in full."""
    title = _text(job.name or job.id)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        # Should something slip through after all, it can neither run nor call home.
        """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">""",
        f"<title>{title}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        f'<p class="quiet">{_text(_facts(job, score_E))}</p>',
        *(f'<p class="warn">{_text(warning)}</p>' for warning in report.warnings),
        _section("Over checkpoints", _curves(report.checkpoints), _table(report.checkpoints)),
        _section("Scores", _histogram(score_E), *_low(report)),
        _section(f"The {len(lowest)} lowest", *map(_example, lowest)) if lowest else "",
        _section("What this rests on", _lineage(report, lineage)),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _facts(job: Job, score_E: Floats) -> str:
    saved = (
        f", {job.counts.samples_saved:,} that could change no score left undrawn" if job.counts.samples_saved else ""
    )
    ended = f", {job.finished_at:%Y-%m-%d %H:%M} UTC" if job.finished_at else ""
    mean = f"{score_E.mean():.3f}" if len(score_E) else "–"
    return (
        f"Job {job.id}{ended}. {len(score_E):,} examples at {len(job.checkpoints)} checkpoints, {job.counts.samples:,} answers "
        f"sampled{saved}. Mean pre-memorization accuracy (the best accuracy while the reference was not known by heart, capped "
        f"by the accuracy now): {mean}."
    )


def _table(lines: Sequence[CheckpointReport]) -> str:
    heads = ("examples", "train accuracy", "memorized", "pre-memorization accuracy", "test accuracy", "forecast")
    rows = []
    for line in lines:
        forecast = (
            line.forecast and f"{line.forecast.accuracy:.3f} ({line.forecast.low:.3f} to {line.forecast.high:.3f})"
        )
        shares = (line.train_accuracy, line.memorized, line.pre_memorization_accuracy, line.test_accuracy)
        cells = [f"{line.examples:,}", *("–" if one is None else f"{one:.3f}" for one in shares), forecast or "–"]
        rows.append(
            f"<tr><td>{_text(line.checkpoint)}</td>{''.join(f'<td class=number>{cell}</td>' for cell in cells)}</tr>"
        )
    head = "".join(f'<th class="number">{name}</th>' for name in heads)
    return f"<table><thead><tr><th>checkpoint</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _curves(lines: Sequence[CheckpointReport]) -> str:
    series = (
        ("train accuracy", "#2f7fc2", [line.train_accuracy for line in lines]),
        ("memorized", "#8a8a8a", [line.memorized for line in lines]),
        ("pre-memorization accuracy", "#c2571a", [line.pre_memorization_accuracy for line in lines]),
        ("test accuracy", "#3d9a5f", [line.test_accuracy for line in lines]),
    )
    known = [(name, color, values) for name, color, values in series if any(value is not None for value in values)]
    drawn = [_grid(), *_names([line.checkpoint for line in lines])]
    for _, color, values in known:
        points = [(_x(place, len(lines)), _y(value)) for place, value in enumerate(values) if value is not None]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in points]
    keys = "".join(f'<span class="key" style="background:{color}"></span>{name}' for name, color, _ in known)
    return f"{_svg('Shares over checkpoints', drawn)}<p>{keys}</p>"


def _names(names: Sequence[str]) -> Iterable[str]:
    """Under the axis, as many as have room; each in full where the pointer rests."""
    every = -(-len(names) // NAMES_SHOWN)
    for place in range(0, len(names), every):
        short = names[place] if len(names[place]) <= NAME_CHARACTERS else f"…{names[place][1 - NAME_CHARACTERS :]}"
        anchor = "middle" if len(names) == 1 or 0 < place < len(names) - 1 else "start" if place == 0 else "end"
        yield (
            f'<text x="{_x(place, len(names)):.1f}" y="{HEIGHT - 14}" text-anchor="{anchor}">{_text(short)}'
            f"<title>{_text(names[place])}</title></text>"
        )


def _histogram(score_E: Floats) -> str:
    counts, _ = np.histogram(score_E, bins=BINS, range=(0.0, 1.0))
    most, width = max(int(counts.max()), 1), (WIDTH - 2 * MARGIN) / BINS
    drawn = []
    for place, count in enumerate(counts.tolist()):
        height = (HEIGHT - 2 * MARGIN) * count / most
        x, y = MARGIN + place * width, HEIGHT - MARGIN - height
        drawn.append(
            f'<rect x="{x + 1:.1f}" y="{y:.1f}" width="{width - 2:.1f}" height="{height:.1f}" fill="#c2571a">'
            f"<title>{place / BINS:.2f} to {(place + 1) / BINS:.2f}: {count:,} examples</title></rect>"
        )
    drawn += [
        f'<text x="{MARGIN + share * (WIDTH - 2 * MARGIN):.0f}" y="{HEIGHT - 14}" text-anchor="middle">{share}</text>'
        for share in (0.0, 0.5, 1.0)
    ]
    drawn.append(f'<text x="{MARGIN}" y="18">{most:,} examples</text>')
    return _svg("Histogram of pre-memorization accuracies", drawn)


def _low(report: JobReport) -> Iterable[str]:
    yield f"<p>{report.low.examples:,} examples lie under {report.low.below:g}.</p>"
    traits = [
        f"<li>{_text(trait.name)}: {trait.chosen:.3g} there, {trait.rest:.3g} in the rest</li>"
        for trait in report.low.traits[:5]
    ]
    if traits:
        yield f"<p>What they have in common:</p><ul>{''.join(traits)}</ul>"


def _example(example: ExampleDetail) -> str:
    shown = []
    for seen in example.checkpoints:
        accuracy = "not every answer drawn" if seen.accuracy is None else f"accuracy {seen.accuracy:.2f}"
        perplexity = "" if seen.perplexity is None else f", perplexity {seen.perplexity:.3f}"
        shown.append(f"{seen.checkpoint}: {accuracy}{perplexity}{', memorized' if seen.memorized else ''}")
    wrong = next(
        (answer for seen in reversed(example.checkpoints) for answer in seen.answers if answer.verdict != "right"), None
    )
    answer = "" if wrong is None else f"<p class=quiet>An answer that is {wrong.verdict}</p>{_pre(wrong.text)}"
    question = " ".join(example.question.split())
    head = f"{example.pre_memorization_accuracy:.2f} · row {example.row} · {question[:120]}{'…' if len(question) > 120 else ''}"
    return (
        f"<details><summary>{_text(head)}</summary><p class=quiet>{_text('; '.join(shown))}</p>"
        f"<p class=quiet>Question</p>{_pre(example.question)}<p class=quiet>Reference</p>{_pre(example.trace)}{answer}</details>"
    )


def _lineage(report: JobReport, known: ExportLineage) -> str:
    sampling, template = known.sampling, known.template
    lines = {
        "job": f"{known.job} ({known.kind})" + (f", of {known.parent}" if known.parent else ""),
        "data set": f"{known.dataset_name} ({known.dataset}), {known.dataset_rows:,} rows",
        "test set": known.test_dataset or "",
        "checkpoints": ", ".join(f"{one.name} ({one.path})" for one in known.checkpoints),
        "memorized": (
            f"perplexity below {report.threshold.memorized_below:.4f} ({report.threshold.basis}: {report.threshold.source})"
        ),
        "forecast": report.forecast_refused or report.threshold.forecast_reason,
        "template": ", ".join(f"{name} {value!r}" for name, value in template.model_dump(exclude_none=True).items()),
        "sampling": (
            f"{sampling.samples} answers, temperature {sampling.temperature:g}, top_p {sampling.top_p:g}, at most "
            f"{sampling.max_tokens} tokens, seed {sampling.seed}; trajectory {known.trajectory}"
        ),
        "grader": known.grader.name,
        "ties": "; ".join(report.tie_order),
        **report.produced_by,
        "premem": known.premem,
    }
    rows = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in lines.items() if value)
    return f"<table><tbody>{rows}</tbody></table>"


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{_text(title)}</h2>{''.join(parts)}</section>"


def _svg(label: str, drawn: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(drawn)}</svg>'


def _grid() -> str:
    lines = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(share)
        lines.append(
            f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>'
            f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{share:g}</text>'
        )
    return "".join(lines)


def _x(place: int, places: int) -> float:
    return MARGIN + (WIDTH - 2 * MARGIN) * (place / (places - 1) if places > 1 else 0.5)


def _y(share: float) -> float:
    return HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * share


def _pre(text: str) -> str:
    cut = text if len(text) <= ANSWER_CHARACTERS else text[:ANSWER_CHARACTERS] + " …"
    return f"<pre>{_text(cut, lines=True)}</pre>"


def _text(text: str, *, lines: bool = False) -> str:
    """As text: no markup, and no character that turns the reading direction around or is no Unicode."""
    return escape(printable(str(text), lines=lines))
