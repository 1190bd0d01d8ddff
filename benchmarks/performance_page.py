"""Write docs/explanation/performance.md out of benchmarks/results: `python -m benchmarks.performance_page`."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.measured import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"
HEAD = """# Performance

Each row compares two things that ran side by side in one script. The numbers are medians over the rounds in the last
column. The heading names the script: `python -m benchmarks.NAME --keep` writes `benchmarks/results/NAME.json`, and
`python -m benchmarks.performance_page` makes this page out of those files.
"""


def page() -> str:
    """The page as the results have it."""
    return "\n".join([HEAD, *(_section(json.loads(path.read_text())) for path in sorted(RESULTS.glob("*.json")))])


def _section(kept: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in kept["versions"].items())
    lines = [
        f"## {kept['name']}",
        "",
        kept["setting"],
        "",
        f"{kept['date']}, {kept['machine']}, Python {kept['python']}, {versions}.",
        "",
    ]
    if kept["ratios"]:
        lines += ["| what | | | ratio | aim | rounds |", "| --- | --- | --- | ---: | --- | ---: |"]
    for ratio in kept["ratios"]:
        one, other = (statistics.median(ratio[name]) for name in ("values", "others"))
        rounds = min(len(ratio["values"]), len(ratio["others"]))
        lines.append(
            f"| {ratio['what']} | {ratio['one']} {_number(one)} {ratio['unit']} | {ratio['other']} {_number(other)} {ratio['unit']} "
            f"| {ratio['ratio']:.4g} | {ratio['aim']} | {rounds} |"
        )
    if kept["facts"]:
        lines += ["", *(f"- {name}: {_fact(value)}" for name, value in kept["facts"].items())]
    return "\n".join(lines) + "\n"


def _fact(value: object) -> str:
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
