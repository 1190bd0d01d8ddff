"""From an upload to a stored data set: every row checked, its reference graded, and written in shards."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from itertools import chain

import numpy as np
from pydantic_core import to_json

from premem.errors import BadLine, RowsError
from premem.grading import get_grader
from premem.grading.choosing import SAMPLE, choose_grader
from premem.records import Grade
from premem.wire.bodies import GraderChoice
from premem.wire.datasets import Columns
from premem_service.datasets.formats import Batch, Row, batches
from premem_service.datasets.rows import Examples, Latex, mapping, read
from premem_service.datasets.shards import Shard, ShardWriter
from premem_service.storage.store import Store

MOST_LISTED = 100
FORMAT = 2
"""Part of every data set's id: to be raised when the same upload would be read into other rows."""

GradeAll = Callable[[Iterable[tuple[str, str]], GraderChoice], Iterable[Grade]]
"""Grades pairs of reference and answer, lazily and in order."""
_MOST_SAMPLED = 2**24
"""Characters of references and traces that a grader is chosen by."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """A data set whose artifacts are stored, and which nothing names yet."""

    id: str
    rows: int
    bytes: int
    """As stored."""
    columns: Columns
    grader: GraderChoice
    grader_reason: str | None
    """Why this one, where it was chosen by the data."""
    ungradable: int
    ungradable_lines: list[BadLine]
    chats: int
    """Rows that ask more than one message of the user."""
    repaired: int
    """Backslashes of LaTeX that were put back."""
    shards: list[Shard]


def ingest(
    blocks: Iterable[bytes],
    *,
    store: Store,
    asked: Columns,
    grader: GraderChoice | None,
    grade_all: GradeAll,
    max_ungradable: float,
    max_row_bytes: int,
    as_csv: bool = False,
    repair_latex: bool | None = None,
) -> Ingested:
    """Read an upload to its end and store it, in memory that does not grow with it (but for 32 bytes per row).

    Where no grader is given, one is chosen by the first rows. `repair_latex`: put back the backslashes of LaTeX that
    were taken for escapes of JSON; False: take such rows as they are; None: refuse them.

    Raises RowsError with the first bad lines, StoreFull, StoreError, and what `blocks` raises; after any of them
    nothing is left in the store.
    """
    with ShardWriter(store) as writer:
        damaged = Latex(repair_latex)
        reading = _Reading(asked=asked, grader=grader, writer=writer, damaged=damaged)
        uploaded = batches(
            blocks,
            max_row_bytes=max_row_bytes,
            temporary_file=store.temporary_file,
            as_csv=as_csv,
            mended=damaged.doubled if repair_latex else None,
        )
        ungradable = _Listed()
        uploaded = reading.begin(uploaded, max_row_bytes)
        grades = iter(grade_all(reading.pairs(uploaded, max_row_bytes), reading.grader))
        for position, grade in enumerate(grades):
            # Where the final answer stands apart its own grade follows: see `_pairs`.
            own = next(grades) if reading.has_final_answer(position) else None
            if not _gradable(grade, own):
                ungradable.add(BadLine(reading.lines[position], None, _ungradable(grade, own)))
        reading.check()
        _check_share(ungradable, reading.accepted, max_ungradable, reading.grader)
        shards = writer.finish()
        return Ingested(
            id=reading.id,
            rows=reading.accepted,
            bytes=writer.bytes,
            columns=reading.columns,
            grader=reading.grader,
            grader_reason=reading.grader_reason,
            ungradable=ungradable.total,
            ungradable_lines=ungradable.lines,
            chats=reading.chats,
            repaired=damaged.repaired,
            shards=shards,
        )


@dataclass(slots=True)
class _Listed:
    """Bad lines, all counted, the first ones kept."""

    total: int = 0
    lines: list[BadLine] = field(default_factory=list)

    def add(self, line: BadLine) -> None:
        self.total += 1
        if self.total <= MOST_LISTED:
            self.lines.append(line)


class _Reading:
    """One pass over an upload: examples out, shards written and the content hashed on the way."""

    def __init__(self, *, asked: Columns, grader: GraderChoice | None, writer: ShardWriter, damaged: Latex) -> None:
        self.columns = asked
        self.accepted = 0
        self.chats = 0
        self.lines = array("q")
        """Of the accepted rows."""
        self.grader = grader or GraderChoice()
        self.grader_reason: str | None = None
        self._asked = asked
        self._damaged = damaged
        self._apart = bytearray()  # one for each row: whether its final answer stands apart from its trace
        self._numbered = False
        self._grader_is_given = grader is not None
        self._writer = writer
        self._bad = _Listed()
        self._content = sha256()
        self._ids = bytearray()  # 16 bytes per row: a set of a million strings would take 150 MB

    def begin(self, batches: Iterator[Batch], max_row_bytes: int) -> Iterator[Batch]:
        """All batches again, once their mapping and grader are settled by the first rows, however these are cut."""
        head: list[Batch] = []
        references: list[str] = []
        traces: list[str] = []
        size, known = 0, False
        for batch in batches:
            head.append(batch)
            known = known or self._map(batch)
            if known and self._grader_is_given:
                break
            # A look ahead: what it repairs is counted when the rows are read in earnest.
            looking = Latex(self._damaged.repair)
            examples, _ = read(batch, self.columns, position=0, max_row_bytes=max_row_bytes, damaged=looking)
            for trace, final_answer in zip(examples.traces, examples.final_answers, strict=True):
                if len(references) < SAMPLE and size < _MOST_SAMPLED:
                    references.append(trace if final_answer is None else final_answer)
                    traces.append(trace)
                    size += len(trace) + len(references[-1])
            if len(references) >= SAMPLE or size >= _MOST_SAMPLED:
                break
        if not self._grader_is_given and references:
            self.grader, self.grader_reason = choose_grader(references, traces)
        if known:
            grader = {**self.grader.model_dump(), "version": get_grader(self.grader).version}
            self._content.update(to_json({"format": FORMAT, "grader": grader, "columns": self.columns.model_dump()}))
        return chain(head, batches)

    def pairs(self, batches: Iterable[Batch], max_row_bytes: int) -> Iterator[tuple[str, str]]:
        """Reference and answer of each row, where its final answer stands apart followed by that answer as both.

        After a bad line nothing is written any more, and the rest only checked.
        """
        for batch in batches:
            examples, bad = read(
                batch,
                self.columns,
                position=self.accepted,
                max_row_bytes=max_row_bytes,
                damaged=self._damaged,
            )
            for line in bad:
                self._bad.add(line)
            self.accepted += len(examples)
            self.chats += examples.chats
            self._numbered |= examples.numbered
            self.lines.extend(examples.lines)
            if self.columns.id is not None:
                self._ids += b"".join([blake2b(id_.encode(), digest_size=16).digest() for id_ in examples.ids])
            if self._bad.total:
                continue
            self._content.update(b"".join(examples.columns))
            self._writer.add(examples)
            self._apart += bytes(answer is not None for answer in examples.final_answers)
            yield from _pairs(examples)

    def has_final_answer(self, position: int) -> bool:
        """Of a row whose pair has been taken."""
        return bool(self._apart[position])

    def _map(self, batch: Batch) -> bool:
        """Settle the mapping by the first row that can be read. False: there is none in this batch."""
        for line, row in zip(*batch, strict=True):
            if not isinstance(row, BadLine):
                try:
                    self.columns = mapping(self._asked, list(row), line=line)
                except RowsError as error:
                    raise _around_rows(row, line) or error from None
                return True
        return False

    @property
    def id(self) -> str:
        return f"ds_{self._content.hexdigest()[:24]}"

    def check(self) -> None:
        """Raises RowsError where a line is bad, two rows share an id, or there is no row."""
        for line, first in self._duplicates():
            numbered = ", and a row without one gets its number, from 0" if self._numbered else ""
            self._bad.add(BadLine(line, self.columns.id, f"has the id of line {first}: ids must be unique{numbered}"))
        if self._bad.total:
            count = self._bad.total
            listed = f"; the first {MOST_LISTED} are listed" if count > MOST_LISTED else ""
            raise RowsError(
                f"{count:,} {'line' if count == 1 else 'lines'} cannot be taken, and nothing was kept{listed}: "
                f"{self._bad.lines[0]}",
                sorted(self._bad.lines, key=lambda bad: bad.line),
                total=count,
            )
        if not self.accepted:
            raise RowsError("the upload holds no rows")

    def _duplicates(self) -> Iterator[tuple[int, int]]:
        """Lines whose id an earlier line has, each with the first such line. 128-bit hashes do not collide by chance."""
        digests = np.frombuffer(self._ids, dtype=np.uint64)
        high, low = digests[::2], digests[1::2]
        order = np.lexsort((low, high))  # stable: the first of equal ids comes first
        same = np.zeros(len(order), dtype=np.bool_)
        same[1:] = (high[order[1:]] == high[order[:-1]]) & (low[order[1:]] == low[order[:-1]])
        place = np.arange(len(order))
        firsts = order[np.maximum.accumulate(np.where(same, 0, place))]
        for position, first in zip(order[same].tolist(), firsts[same].tolist(), strict=True):
            yield self.lines[position], self.lines[first]


def _pairs(examples: Examples) -> Iterator[tuple[str, str]]:
    for trace, final_answer in zip(examples.traces, examples.final_answers, strict=True):
        if final_answer is None:
            yield trace, trace
        else:
            yield final_answer, trace
            yield final_answer, final_answer


def _around_rows(row: Row, line: int) -> RowsError | None:
    """For an object that holds the rows in a list, as `{"data": [...]}` does."""
    for name, value in row.items():
        if type(value) is list and value and all(type(one) is dict for one in value) and "role" not in value[0]:
            return RowsError(
                f"line {line} is an object around a list of {len(value):,} objects, in its field {name!r}; if they are "
                f"the rows send them by themselves, one per line (jq -c '.[\"{name}\"][]' FILE > rows.jsonl)"
            )
    if len(row) > 1 and all(type(value) is dict for value in row.values()):
        return RowsError(
            f"line {line} is an object whose {len(row):,} fields are all objects; if they are the rows send them by "
            "themselves, one per line (jq -c '.[]' FILE > rows.jsonl)"
        )
    return None


def _gradable(grade: Grade, own: Grade | None) -> bool:
    """A trace that marks no final answer does no harm where the answer stands apart, and can be graded itself."""
    return grade.verdict == "right" or (grade.verdict == "no_answer" and own is not None and own.verdict == "right")


def _ungradable(grade: Grade, own: Grade | None) -> str:
    if own is not None and own.verdict != "right":
        shown = "" if own.extracted is None else f" {own.extracted[:200]!r}"
        return f"the final answer{shown}, in its own column, is none that this grader can compare"
    if grade.verdict == "no_answer":
        return "the reference holds no final answer that this grader finds"
    found = "" if grade.extracted is None else f" (final answer found: {grade.extracted[:200]!r})"
    if grade.verdict == "timeout":
        return f"grading the reference against itself ran out of time{found}"
    if own is not None:
        return f"the final answer that the reference itself ends with is not the one in its own column{found}"
    return f"the reference's own answer does not grade as right{found}"


def _check_share(ungradable: _Listed, rows: int, most: float, grader: GraderChoice) -> None:
    if ungradable.total > most * rows:
        raise RowsError(
            f"the references of {ungradable.total:,} of {rows:,} rows ({ungradable.total / rows:.1%}) do not grade as "
            f"right by the grader {grader.name!r}, and at most {most:.1%} may; choose another grader or map another "
            "column, correct the rows, or allow more with ?max_ungradable=SHARE",
            ungradable.lines,
            total=ungradable.total,
        )
