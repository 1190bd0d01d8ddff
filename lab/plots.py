"""Small plots as SVG by hand: points around a line, and curves. No library is needed to draw twenty circles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 40, 52
COLOURS = ("#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#b07aa1", "#9c755f", "#bab0ac")
TICKS = 5

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    label: str
    low: float
    high: float

    def share(self, value: float) -> float:
        """Where it lies between the ends, 0 to 1; outside of them it is drawn at the end."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def scatter(groups: Mapping[str, Sequence[Point]], *, title: str, x: Axis, y: Axis) -> str:
    """One colour per group, with the line y = x."""
    ends = (max(x.low, y.low), min(x.high, y.high))
    marks = [_line([(end, end) for end in ends], x, y, colour="#888888", dashes="5 4")]
    for at, (name, points) in enumerate(groups.items()):
        colour = COLOURS[at % len(COLOURS)]
        marks += [
            f'<circle cx="{_across(a, x):.1f}" cy="{_down(b, y):.1f}" r="4" fill="{colour}" fill-opacity="0.75"/>'
            for a, b in points
        ]
        marks.append(_legend(at, name, colour))
    marks.append(_legend(len(groups), "y = x", "#888888"))
    return _picture(marks, title=title, x=x, y=y)


def curves(lines: Mapping[str, Sequence[Point]], *, title: str, x: Axis, y: Axis, levels: Sequence[float] = ()) -> str:
    """One colour per line; `levels` are dashed, from side to side. What lies outside of the axes is cut at their ends."""
    marks = [_line([(x.low, level), (x.high, level)], x, y, colour="#888888", dashes="5 4") for level in levels]
    for at, (name, points) in enumerate(lines.items()):
        colour = COLOURS[at % len(COLOURS)]
        marks += [_line(points, x, y, colour=colour), _legend(at, name, colour)]
    return _picture(marks, title=title, x=x, y=y)


def _line(points: Sequence[Point], x: Axis, y: Axis, *, colour: str, dashes: str = "") -> str:
    path = " ".join(f"{_across(a, x):.1f},{_down(b, y):.1f}" for a, b in points)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dashed}/>'


def _legend(at: int, name: str, colour: str) -> str:
    left, top = WIDTH - RIGHT + 14, TOP + 10 + 18 * at
    return (
        f'<rect x="{left}" y="{top - 8}" width="10" height="10" fill="{colour}"/>'
        f'<text x="{left + 16}" y="{top + 1}">{escape(name)}</text>'
    )


def _picture(marks: Sequence[str], *, title: str, x: Axis, y: Axis) -> str:
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="sans-serif" font-size="12" fill="#222222">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" font-size="14" font-weight="bold">{escape(title)}</text>',
        f'<rect x="{LEFT}" y="{TOP}" width="{across}" height="{down}" fill="none" stroke="#bbbbbb"/>',
    ]
    for tick in range(TICKS + 1):
        at_x, at_y = (axis.low + (axis.high - axis.low) * tick / TICKS for axis in (x, y))
        parts.append(
            f'<text x="{_across(at_x, x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{at_x:.3g}</text>'
        )
        parts.append(f'<text x="{LEFT - 8}" y="{_down(at_y, y) + 4:.1f}" text-anchor="end">{at_y:.3g}</text>')
    middle = TOP + down / 2
    parts.append(f'<text x="{LEFT + across / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x.label)}</text>')
    parts.append(
        f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">{escape(y.label)}</text>'
    )
    return "\n".join([*parts, *marks, "</svg>"]) + "\n"


def _across(value: float, axis: Axis) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * axis.share(value)


def _down(value: float, axis: Axis) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * axis.share(value)
