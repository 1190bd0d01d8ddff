"""What a notebook and rich print of a job, a report, a selection and a page of examples: the tables of the commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from premem.output.choices import examples_table, selection_lines
from premem.output.reports import job_parts, report_parts, threshold_text
from premem.output.text import printable
from premem.wire.curation import Selection
from premem.wire.display import as_html, as_parts
from premem.wire.examples import ExamplePage
from premem.wire.jobs import Job
from premem.wire.reports import JobReport

Part = Table | Text | str

MOST_LINES = 20
"""Of a table of checkpoints, examples or rows; what is longer ends in how many more there are."""


def _job(job: Job) -> Sequence[Part]:
    told = [f"Warning: {printable(warning)}" for warning in job.warnings]
    told += [f"Error: {printable(error)}" for error in job.errors]
    return [*job_parts(job, most=MOST_LINES), *_more(len(job.checkpoints), "checkpoints"), *told]


def _page(page: ExamplePage) -> Sequence[Part]:
    shown = page.model_copy(update={"items": page.items[:MOST_LINES]})
    return [
        examples_table(shown),
        *_more(len(page.items), "examples on this page"),
        f"{len(page.items):,} of {page.total:,}; checkpoints in order: {printable(', '.join(page.checkpoints))}",
        threshold_text(page.threshold),
    ]


def _selection(selection: Selection) -> Sequence[Part]:
    return [*selection_lines(selection, most=MOST_LINES), *_more(len(selection.chosen), "chosen rows")]


def _more(length: int, noun: str) -> list[str]:
    return [f"… and {length - MOST_LINES:,} more {noun}"] if length > MOST_LINES else []


def _html(parts: Sequence[Part]) -> str:
    """Tables as tables, lines as paragraphs. Everything is text: no markup of the data is obeyed."""
    return (
        f"<div>{''.join(_table(part) if isinstance(part, Table) else f'<p>{_text(part)}</p>' for part in parts)}</div>"
    )


def _table(table: Table) -> str:
    aligned = [f' style="text-align: {column.justify}"' for column in table.columns]
    head = "".join(f"<th{at}>{_text(column.header)}</th>" for at, column in zip(aligned, table.columns, strict=True))
    rows = zip(*(column.cells for column in table.columns), strict=True)
    body = "".join(
        f"<tr>{''.join(f'<td{at}>{_text(cell)}</td>' for at, cell in zip(aligned, row, strict=True))}</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(part: RenderableType) -> str:
    return escape(printable(str(part), lines=True))


def _register(kind: type, parts: Callable[[Any], Sequence[Part]]) -> None:
    # A line is text, not markup, for rich as well.
    as_parts.register(kind, lambda reply: [Text(part) if isinstance(part, str) else part for part in parts(reply)])
    as_html.register(kind, lambda reply: _html(parts(reply)))


_register(Job, _job)
_register(JobReport, report_parts)
_register(Selection, _selection)
_register(ExamplePage, _page)
