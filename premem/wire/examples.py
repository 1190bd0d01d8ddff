"""What may be asked of the ranked examples (see wire.py)."""

from __future__ import annotations

from typing import Literal, TypedDict

Sort = Literal["rank", "mean_accuracy", "last_accuracy", "perplexity", "interval", "memorized_at", "row"]


class Wanted(TypedDict, total=False):
    """Which examples, and in which order; what is absent filters nothing."""

    above: float
    """Score, inclusive."""
    below: float
    """Score, exclusive."""
    interval_above: float
    """The lower end of the score's 90% interval, inclusive."""
    interval_below: float
    """Its upper end, exclusive."""
    perplexity_above: float
    """Of the reference at the last checkpoint, inclusive."""
    perplexity_below: float
    """The same, exclusive."""
    memorized: bool
    """At some checkpoint, or at none."""
    memorized_at: str
    """Name of the first checkpoint at which it was."""
    search: str
    """Stands in the question, in capitals or not."""
    tag: str
    without_tag: str
    sort: Sort
    order: Literal["ascending", "descending"]


def asked_for(wanted: Wanted) -> dict[str, str | float | None]:
    """As the query has it."""
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in wanted.items()
        if value is None or isinstance(value, str | float | int)
    }
