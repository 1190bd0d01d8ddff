"""Tables and lines, at the width of the terminal that they are for."""

from __future__ import annotations

import sys

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from premem.output.text import printable

PLAIN_WIDTH = 200
"""Characters per line where there is no terminal to ask for its width."""


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


def new_table(*right: str, left: tuple[str, ...] = ()) -> Table:
    """A table whose first column and `left` are text, the others numbers."""
    table = Table(box=box.SIMPLE_HEAD)
    for number, name in enumerate(right):
        table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for name in left:
        table.add_column(name, overflow="fold")
    return table


def say(message: str) -> None:
    """A line on stderr, for people."""

    print(printable(message, lines=True), file=sys.stderr, flush=True)
