"""`premem …`: what every command shares, and how the program ends."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from premem.cli.commands import COMMANDS, LazyGroup
from premem.cli.exits import EXIT_CODES, complain
from premem.errors import PrememError

app = typer.Typer(
    name="premem",
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Find the training examples that your model could not solve before it memorized them.\n\n"
    "On one machine: `premem score train.jsonl out/checkpoint-*`\n\n"
    "With a service that stays up: `premem serve`, `premem worker` on each machine with a GPU, then `premem score` "
    "with `--service`, or `premem upload` and the HTTP interface.",
    epilog=EXIT_CODES,
)
for command in COMMANDS.values():
    command.list_in(app)


def _print_version(asked: bool) -> None:
    if asked:
        print(version("premem"))
        raise typer.Exit


@app.callback()
def shared(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """What stands before a command's name."""


def main() -> None:
    """Run the command line and exit with its status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="premem")
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (PrememError, OSError) as error:
        sys.exit(complain(error))
