"""A picture of what a command printed on a terminal.

script -qec 'make demo' /dev/null < /dev/null | python -m lab.picture docs/demo.svg
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 150
_REDRAWN = re.compile(r"\x1b\[[0-9;?]*[A-HJKhl]")
"""Cursor movements: of a bar that was redrawn, the last line stays."""


def picture(printed: str, *, title: str) -> str:
    """The SVG. What starts over in the same line replaces what stood there."""
    lines = [_REDRAWN.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in printed.split("\n")]
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=False, highlight=False)
    return console.export_svg(title=title)


def main() -> None:
    printed = sys.stdin.buffer.read().decode(errors="replace")
    Path(sys.argv[1]).write_text(picture(printed, title="make demo"))


if __name__ == "__main__":
    main()
