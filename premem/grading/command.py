"""What `premem grade` does: a line in, a line out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from premem.errors import BadLine, RowsError
from premem.grading.pool import GradingPool
from premem.wire.bodies import GraderChoice


class Lines(Protocol):
    def write(self, text: str, /) -> Any: ...


def grade_stream(lines_in: Iterable[str | bytes], lines_out: Lines, *, grader: GraderChoice, jobs: int) -> Counter[str]:
    """Read `{"reference": …, "answer": …}` per line, write `{"verdict": …, "extracted": …}` per line, in order.

    Other fields are ignored, and so are blank lines. Gives how often each verdict was. Raises RowsError at the first
    line that cannot be taken, after the grades of the lines before it are written, and GraderError before anything is.
    """
    bad: list[RowsError] = []
    counts: Counter[str] = Counter()
    with GradingPool(grader, processes=jobs) as pool:
        for grade in pool.grade_all(_pairs(lines_in, bad)):
            counts[grade.verdict] += 1
            lines_out.write(json.dumps({"verdict": grade.verdict, "extracted": grade.extracted}) + "\n")
    if bad:
        raise bad[0]
    return counts


def _pairs(lines: Iterable[str | bytes], bad: list[RowsError]) -> Iterator[tuple[str, str]]:
    """Ends at the first bad line, which is left in `bad`: what is being graded meanwhile is still wanted."""
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _pair(line, number)
    except UnicodeDecodeError as error:
        bad.append(_refused(number + 1, None, f"not UTF-8 ({error.reason}): convert the file to UTF-8"))
    except RowsError as error:
        bad.append(error)


def _pair(line: str | bytes, number: int) -> tuple[str, str]:
    try:
        row = json.loads(line.decode() if isinstance(line, bytes) else line)
    except UnicodeDecodeError as error:
        raise _refused(number, None, f"not UTF-8 ({error.reason}): convert the file to UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise _refused(number, None, f"no JSON ({error}): write one object per line") from None
    if not isinstance(row, dict):
        raise _refused(number, None, 'no JSON object: write {"reference": "…", "answer": "…"}')
    for field in ("reference", "answer"):
        if field not in row:
            raise _refused(number, field, "is missing: every line needs a reference and an answer")
        if not isinstance(row[field], str):
            raise _refused(number, field, f'is {json.dumps(row[field])[:40]}, not a text: put it in "quotes"')
    return row["reference"], row["answer"]


def _refused(number: int, field: str | None, message: str) -> RowsError:
    line = BadLine(number, field, message)
    return RowsError(str(line), [line])
