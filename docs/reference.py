"""Writes docs/reference.md: every route, setting, command and flag. `python -m docs.reference`."""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path
from typing import Any

import click
import typer
from pydantic_settings import BaseSettings

from premem.cli.commands import COMMANDS
from premem.cli.main import app
from premem_service.__main__ import _parser as service_parser
from premem_service.app import create_app
from premem_service.settings import Settings as ServiceSettings
from premem_worker.settings import Settings as WorkerSettings
from premem_worker.settings import _parser as worker_parser

PAGE = Path(__file__).with_name("reference.md")


def reference() -> str:
    with tempfile.TemporaryDirectory() as folder:
        schema = create_app(ServiceSettings(data_dir=Path(folder))).openapi()
    parts = [
        "# Reference",
        "",
        "Written by `python -m docs.reference`; bodies stand at `/docs` of a service.",
        *["", "## Routes", "", *_routes(schema)],
        *["", "## Settings of the service", "", *_settings("PREMEM_", ServiceSettings, service_parser())],
        *["", "## Settings of a worker", "", *_settings("PREMEM_WORKER_", WorkerSettings, worker_parser())],
        *["", "## Commands", *_command(typer.main.get_command(app), "premem")],
        *[line for command in COMMANDS.values() for line in _command(command.loaded(), f"premem {command.name}")],
    ]
    return "\n".join(parts) + "\n"


def _routes(schema: dict[str, Any]) -> list[str]:
    lines = ["| route | what it does | query |", "| --- | --- | --- |"]
    for path, operations in schema["paths"].items():
        for method, about in operations.items():
            query = [f"`{given['name']}`" for given in about.get("parameters", []) if given["in"] == "query"]
            told = _cell(about.get("description") or about.get("summary", ""))
            lines.append(f"| `{method.upper()} {path}` | {told} | {', '.join(query)} |")
    return lines


def _settings(prefix: str, settings: type[BaseSettings], parser: argparse.ArgumentParser) -> list[str]:
    flags = {action.dest: action.option_strings for action in parser._actions if action.option_strings}
    lines = ["| setting | flag | what it is |", "| --- | --- | --- |"]
    fields = settings.model_fields
    for name, field in fields.items():
        flag = ", ".join(f"`{flag}`" for flag in flags.get(name, []))
        lines.append(f"| `{prefix}{name.upper()}` | {flag} | {_cell(field.description or '')} |")
    unset = [action for action in parser._actions if action.option_strings and action.dest not in {*fields, "help"}]
    return lines + [f"|  | `{', '.join(action.option_strings)}` | {_cell(action.help or '')} |" for action in unset]


def _command(command: Any, name: str) -> list[str]:
    lines = ["", f"### `{name}`", "", _cell(command.help or ""), ""]
    for given in command.params:
        flags = ", ".join(f"`{flag}`" for flag in (*given.opts, *given.secondary_opts))
        told = _cell(getattr(given, "help", None) or "")
        lines.append(f"- {flags}: {told}" if told else f"- {flags}")
    return lines


def _cell(text: str) -> str:
    """The first paragraph, on one line."""
    first = re.sub(r"\s+", " ", click.unstyle(text).strip().split("\n\n")[0])
    return first.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(reference())
