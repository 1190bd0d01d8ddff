"""A picture of what the demo printed.

make demo < /dev/null | python -m lab.picture docs/images/demo.svg
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COUNTER = re.compile(r"^(finetuning|scoring|[^:]+\.jsonl): [\d,]+ of ")


def picture(printed: str, *, title: str) -> str:
    """The SVG. Of a counter only the last line stays, as on a terminal."""
    lines = printed.rstrip().split("\n")
    shown = [
        line
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if not (COUNTER.match(line) and COUNTER.match(following))
    ]
    console = Console(record=True, width=max(map(len, shown)), file=io.StringIO())
    for line in shown:
        console.print(Text(line), highlight=False)
    return console.export_svg(title=title)


def main() -> None:
    Path(sys.argv[1]).write_text(picture(sys.stdin.read(), title="make demo"))


if __name__ == "__main__":
    main()
