"""What `\\boxed{}` holds."""

from __future__ import annotations

import re
from typing import NamedTuple

_BRACES = re.compile(r"\\(?:boxed|fbox)\s?(?P<opens>\{)|\\boxed\s(?P<bare>[^\s{}$\\]+)|\\.|[{}]", re.DOTALL)
_JOINED = re.compile(
    r"(?:[\s$,;.&]|\\[()\[\]]|\\[,; ]|\\q?quad|\\text\s?\{\s*(?:and|or)\s*,?\s*\}|(?<![A-Za-z])(?:and|or|und|et|y|ou|oder)(?![A-Za-z])"
    r"|[和或与]|[A-Za-z](?:_\{?\w\}?)?\s*=)*"
)
_LONGEST_GAP = 60


class Box(NamedTuple):
    held: str
    start: int
    """Of the `\\boxed`."""
    end: int


def boxes(text: str) -> list[Box]:
    """The boxes whose braces are balanced and that hold something, in the order in which they end. Linear."""
    opened: list[tuple[int, int] | None] = []  # per open brace: where its box and its content start, None: no box
    found = []
    for token in _BRACES.finditer(text):
        if token["opens"]:
            opened.append((token.start(), token.end()))
        elif token["bare"]:
            found.append(Box(token["bare"], token.start(), token.end()))
        elif token[0] == "{":
            opened.append(None)
        elif token[0] == "}" and opened:
            start = opened.pop()
            if start is not None and text[start[1] : token.start()].strip():
                found.append(Box(text[start[1] : token.start()], start[0], token.end()))
    return found


def boxed_answer(text: str) -> str | None:
    """What the last box holds, or the last several, with commas, where only an "and" or a comma stands between them."""
    found = boxes(text)
    if not found:
        return None
    joined = [found[-1]]
    for box in reversed(found[:-1]):
        if box.end > joined[-1].start:
            continue  # it stands in the other
        gap = text[box.end : joined[-1].start]
        if len(gap) > _LONGEST_GAP or not _JOINED.fullmatch(gap) or "\n\n" in gap:
            break
        joined.append(box)
    held = [box.held.strip() for box in reversed(joined)]
    return held[0] if len(set(held)) == 1 else ", ".join(held)
