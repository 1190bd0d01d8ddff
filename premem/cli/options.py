"""Options that several commands share, and how what was typed becomes what the service is asked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from premem.client.routes.exports import RowsFormat
from premem.errors import InputError
from premem.forecasting.thresholds import PRESETS
from premem.wire.datasets import Columns

Model = TypeVar("Model", bound=BaseModel)

COLUMNS_PANEL = "Columns of the data"


CuratedFormat = Literal[RowsFormat, "folder"]
"""How curated rows are written; folder: what `datasets.load_dataset` reads."""
EngineName = Literal["auto", "vllm", "transformers"]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, as `premem score` or `premem status` says.")]
ServiceUrl = Annotated[
    str | None,
    typer.Option(
        "--service",
        metavar="URL",
        envvar="PREMEM_SERVICE",
        help="The service to ask; http://127.0.0.1:8321 where none is named. Its key is read from PREMEM_API_KEY.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for programs.")]
Grader = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What decides whether an answer is right: gsm8k, math, exact, choice, regex, …; absent: chosen by the data.",
    ),
]
GraderOptions = Annotated[
    str | None, typer.Option(metavar="JSON", help='The grader\'s own options, as {"pattern": "…"}.')
]
MaxUngradable = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE", help="Refuse the data when more of its own references fail to grade as right; 0.05 is usual."
    ),
]
RepairLatex = Annotated[
    bool | None,
    typer.Option(
        "--repair-latex/--no-repair-latex",
        help="LaTeX whose single backslashes JSON took for escapes: put them back, or take the rows as they are. "
        "Absent: such rows are refused.",
    ),
]
Question = Annotated[str | None, typer.Option(metavar="COL", help="Holds the question.", rich_help_panel=COLUMNS_PANEL)]
Trace = Annotated[
    str | None, typer.Option(metavar="COL", help="Holds the reference reasoning.", rich_help_panel=COLUMNS_PANEL)
]
FinalAnswer = Annotated[
    str | None,
    typer.Option(
        metavar="COL",
        help="Holds the final answer, where it is not to be taken out of the reasoning.",
        rich_help_panel=COLUMNS_PANEL,
    ),
]
IdColumn = Annotated[
    str | None, typer.Option("--id", metavar="COL", help="Holds each row's id.", rich_help_panel=COLUMNS_PANEL)
]
Messages = Annotated[
    str | None,
    typer.Option(metavar="COL", help="Holds a chat, instead of question and trace.", rich_help_panel=COLUMNS_PANEL),
]


def columns_from(
    *, question: str | None, trace: str | None, final_answer: str | None, id_: str | None, messages: str | None
) -> Columns:
    return Columns(question=question, trace=trace, final_answer=final_answer, id=id_, messages=messages)


def options_from(text: str | None) -> dict[str, Any]:
    """Raises InputError where it is no JSON object."""
    if text is None:
        return {}
    try:
        options = json.loads(text)
    except ValueError as error:
        raise InputError(f"--grader-options: not JSON: {error}") from None
    if not isinstance(options, dict):
        raise InputError(f'--grader-options: must be a JSON object like {{"name": "value"}}, not {text}')
    return options


def memorized_below_from(text: str | None) -> float | str | None:
    """A perplexity or a preset's name. Raises InputError for anything else."""
    if text is None or text in PRESETS:
        return text
    try:
        perplexity = float(text)
    except ValueError:
        perplexity = 0.0
    if not 1.0 < perplexity <= 1e6:
        presets = ", ".join(PRESETS)
        raise InputError(f"--memorized-below: {text!r} is neither a perplexity above 1 nor a preset ({presets})")
    return perplexity


def perturbations_from(answer_prefixes: list[str], file: Path | None) -> list[dict[str, Any]]:
    """Bodies of perturbations, the ones of the file last. Raises InputError where that is no JSON list of objects."""
    found: list[dict[str, Any]] = [
        {"name": text.strip() or repr(text), "answer_prefix": text} for text in map(unescaped, answer_prefixes)
    ]
    if file is None:
        return found
    try:
        named = json.loads(file.read_text())
    except ValueError as error:
        raise InputError(f"--perturbations: {file} is no JSON: {error}") from None
    if not isinstance(named, list) or not all(isinstance(one, dict) for one in named):
        raise InputError(f"--perturbations: {file} must hold a JSON list of objects")
    return found + named


def unescaped(text: str) -> str:
    r"""A template as it is typed: \n is a line break, \t a tab, \\ a backslash."""
    meant = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}
    return re.sub(r"\\[nt\\]", lambda found: meant[found[0]], text)


def asked(kind: type[Model], *, prefix: str = "", **fields: Any) -> Model:
    """A body of the wire out of options, named as its fields after `prefix`. Raises InputError, naming the option."""
    try:
        return kind(**fields)
    except ValidationError as error:
        faults = [f"{_option(fault['loc'], prefix)}{_message(fault['msg'])}" for fault in error.errors()]
        raise InputError("; ".join(faults)) from None


def _option(location: tuple[int | str, ...], prefix: str) -> str:
    """("max_tokens",) → --max-tokens: ; nothing where the fault lies between options."""
    return f"--{prefix}{str(location[0]).replace('_', '-')}: " if location else ""


def _message(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should", "should")
