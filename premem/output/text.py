"""Numbers, shares and durations in words."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from premem.wire.examples import IntervalReply


def printable(text: str, *, lines: bool = False) -> str:
    r"""`text` with every character that a terminal would obey spelled out, as \x1b; line breaks too unless `lines`.

    What a model wrote is data: it must not move the cursor, set the title or turn the reading direction around.
    """
    kept = "\n\t" if lines else ""
    return "".join(character if character in kept else _spelled(character) for character in text)


def _spelled(character: str) -> str:
    if character == "\n":
        return "⏎ "
    # Cc control, Cf format (bidirectional overrides), Cs lone surrogates, Zl and Zp separators
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
        return character.encode("unicode_escape").decode()
    return character


def indented(content: str, indent: str) -> str:
    return "".join(f"{indent}{line}\n" for line in printable(content, lines=True).split("\n"))


def share_text(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def interval_text(interval: IntervalReply | None) -> str:
    return "" if interval is None else f"{interval.low:.2f} to {interval.high:.2f}"


def signed_text(interval: IntervalReply | None) -> str:
    return "" if interval is None else f"{interval.low:+.3f} to {interval.high:+.3f}"


def percent_text(value: float) -> str:
    return f"{value:.1%}"


def shortened(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"


def duration(seconds: float) -> str:
    """40 s, 12 min, 3 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
