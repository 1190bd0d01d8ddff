"""From an uploaded row to an example: which column plays which part, and what cannot be taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeGuard

from pydantic_core import PydanticSerializationError, to_json

from premem.errors import BadLine, RowsError
from premem.wire.datasets import Columns
from premem_service.datasets import latex
from premem_service.datasets.conversations import (
    AROUND,
    USER,
    BadField,
    Message,
    around,
    check_media,
    is_plain,
    messages_of,
    rendered,
    split,
)
from premem_service.datasets.formats import Batch, Row, too_long

INSTRUCTION, INPUT = "instruction", "input"
GOES_ON = (INPUT, "context")  # of Alpaca and Dolly: where there is one, the question goes on with it
QUESTION = ("question", "prompt", INSTRUCTION)
PROBLEM = ("problem", "query", INPUT)  # what was trained on are the messages, where there are any beside it
TRACE = ("trace", "solution")
COMPLETION = ("completion", "output", "response", "generated_solution")
ANSWER = "answer"  # the trace where there is no other, else the final answer
FINAL_ANSWER = ("final_answer", ANSWER, "expected_answer")
MESSAGES = ("messages", "conversations", "conversation", "dialog", "dialogue")
ID = "id"
PARTS = ("question", "trace", "final_answer", "id", "messages")

LONGEST_ID = 500


def mapping(asked: Columns, present: Sequence[str], *, line: int = 1) -> Columns:
    """Which column plays which part, out of the names that a data set's first row (on `line`) has.

    question: `question`, else `prompt`, else `instruction`, which an `input` or `context` goes on from. trace: `trace`, else
    `solution`, `answer`, `completion`, `output`, `response`, `generated_solution`. final_answer: `final_answer`, else
    `answer` where that is not the trace, else `expected_answer`. Where question or trace is missing, `messages`,
    `conversations`, `conversation` or `dialog` stands for both; where there is none of these either, `problem`, `query`
    or `input` is the question. `id` is the row's number where there is no such column. Raises RowsError, naming the
    columns that are there.
    """
    for part in PARTS:
        column = getattr(asked, part)
        if column is not None and column not in present:
            raise _no_column(f"the column {column!r}, asked for as {part}, is not there", part, present, line)
    if asked.messages is not None and (asked.question is not None or asked.trace is not None):
        raise RowsError("messages holds both question and trace: map either messages, or question and trace")
    taken = {getattr(asked, part) for part in PARTS}
    free = [name for name in present if name not in taken]
    question = asked.question or _first(QUESTION, free)
    trace = asked.trace or _first((*TRACE, ANSWER, *COMPLETION), free)
    messages = asked.messages
    if messages is None and (question is None or trace is None) and asked.question is None and asked.trace is None:
        messages = _first(MESSAGES, free)
    if question is None and messages is None:
        question = _first(PROBLEM, free)
    if messages is not None:
        question = trace = None
    elif question is None:
        raise _no_column("no column holds the question", "question", present, line)
    elif trace is None:
        raise _no_column("no column holds the trace, the reference reasoning", "trace", present, line)
    final_answer = asked.final_answer or _first(FINAL_ANSWER, [name for name in free if name != trace])
    return Columns(
        question=question,
        trace=trace,
        final_answer=final_answer,
        id=asked.id or _first((ID,), free),
        messages=messages,
    )


def _first(names: Sequence[str], present: Sequence[str]) -> str | None:
    return next((name for name in names if name in present), None)


def _no_column(what: str, part: str, present: Sequence[str], line: int) -> RowsError:
    names = ", ".join(map(repr, present[:50])) or "none"
    message = f"{what}; the columns of line {line} are {names}; say which one it is with ?{part}=NAME"
    return RowsError(message, [BadLine(line, part, what)])


@dataclass(slots=True)
class Examples:
    """Some rows as examples, by column; `lines` says where each stood."""

    lines: list[int]
    ids: list[str]
    questions: list[str]
    traces: list[str]
    final_answers: list[str | None]
    columns: list[bytes]
    """The row as it was uploaded: a JSON object, spacing and escapes made uniform."""
    chats: int = 0
    """Of more than one message of the user and its answer."""
    numbered: bool = False
    """Whether a row has its number for an id, though others have a column of ids."""

    def __len__(self) -> int:
        return len(self.lines)


@dataclass(slots=True)
class Latex:
    """What is done about LaTeX whose backslashes were taken for escapes of JSON."""

    repair: bool | None = None
    """None: such a row is refused. False: it is taken as it is."""
    repaired: int = 0
    """Backslashes that were put back."""

    def doubled(self, content: bytes) -> bytes:
        """JSON whose lone backslashes are put right."""
        content, count = latex.doubled(content)
        self.repaired += count
        return content

    def mended(self, rows: Sequence[Row | BadLine], columns: Columns) -> Sequence[Row | BadLine]:
        """The rows, repaired where that is wanted."""
        if not self.repair:
            return rows
        formulas = frozenset({columns.final_answer} - {None})
        mended = []
        for row in rows:
            if not isinstance(row, BadLine):
                row, count = latex.repaired_row(row, formulas=formulas)
                self.repaired += count
            mended.append(row)
        return mended

    def check(self, text: str, column: str, *, formula: bool = False) -> None:
        """Raises BadField where LaTeX was damaged and nothing was said about that."""
        if self.repair is not None or not latex.may_be_eaten(text):
            return
        place = next(latex.eaten(text, formula=formula), None)
        if place is not None:
            raise BadField(
                column,
                f"holds {latex.described(text, place)}: JSON takes a single backslash for an escape. Double the "
                "backslashes, or have them put back with ?repair_latex=true; where the control characters are meant, "
                "say ?repair_latex=false",
            )


def read(
    batch: Batch, columns: Columns, *, position: int, max_row_bytes: int, damaged: Latex | None = None
) -> tuple[Examples, list[BadLine]]:
    """The examples in a batch by this mapping, and what cannot be taken.

    `position` is the first row's in the data set: where no column holds ids, positions are the ids. `damaged`: what is
    done about LaTeX, which counts what it repaired; absent, damaged rows are refused.
    """
    damaged = damaged or Latex()
    batch = (batch[0], damaged.mended(batch[1], columns))
    return _read_sound(batch, columns, position, max_row_bytes, damaged) or _read_each(
        batch, columns, position, max_row_bytes, damaged
    )


def _read_sound(
    batch: Batch, columns: Columns, position: int, max_row_bytes: int, damaged: Latex
) -> tuple[Examples, list[BadLine]] | None:
    """A whole batch at once where nothing is wrong with any row, as is usual (twice as fast); else None."""
    lines, rows = batch
    if columns.messages is not None or columns.question == INSTRUCTION or not _all_rows(rows):
        return None
    if not all(map(AROUND.isdisjoint, rows)):
        return None
    try:
        contents = [to_json(row, inf_nan_mode="null") for row in rows]
    except PydanticSerializationError:
        return None
    questions = _column(rows, columns.question)
    traces = _column(rows, columns.trace)
    final_answers = _column(rows, columns.final_answer)
    ids = [str(value) if type(value) is int else value for value in _column(rows, columns.id)]
    if columns.id is None:
        ids = [str(number) for number in range(position, position + len(rows))]
    sound = (
        _all_sound(questions, damaged)
        and _all_sound(traces, damaged)
        and _all_sound(ids, damaged)
        and (columns.final_answer is None or _all_sound(final_answers, damaged))
        and max(map(len, ids)) <= LONGEST_ID
        and max(map(len, contents)) <= max_row_bytes
    )
    return (Examples(list(lines), ids, questions, traces, final_answers, contents), []) if sound else None


def _all_rows(rows: Sequence[Row | BadLine]) -> TypeGuard[Sequence[Row]]:
    return {type(row) for row in rows} == {dict}


def _column(rows: Sequence[Row], name: str | None) -> list[Any]:
    return [None] * len(rows) if name is None else [row.get(name) for row in rows]


def _all_sound(texts: Sequence[Any], damaged: Latex) -> bool:
    """What `_sound` and `Latex.check` ask of one text."""
    if {type(text) for text in texts} != {str} or not all(texts) or any(map(str.isspace, texts)):
        return False
    joined = "".join(texts)
    return "\0" not in joined and (damaged.repair is not None or not latex.may_be_eaten(joined))


def _is_empty(text: str) -> bool:
    return not text or text.isspace()


def _read_each(
    batch: Batch, columns: Columns, position: int, max_row_bytes: int, damaged: Latex
) -> tuple[Examples, list[BadLine]]:
    examples = Examples([], [], [], [], [], [])
    bad = []
    for line, row in zip(*batch, strict=True):
        if isinstance(row, BadLine):
            bad.append(row)
            continue
        try:
            question, trace, plain = _question_and_trace(row, columns)
            damaged.check(question, columns.messages or columns.question or "")
            damaged.check(trace, columns.messages or columns.trace or "")
            final_answer = None if columns.final_answer is None else _final_answer(row, columns.final_answer)
            damaged.check(final_answer or "", columns.final_answer or "", formula=True)
            id_ = None if columns.id is None else _id(row, columns.id)
            content = _content(row, max_row_bytes)
        except BadField as error:
            bad.append(BadLine(line, error.field, error.message))
            continue
        examples.numbered |= id_ is None and columns.id is not None
        examples.ids.append(str(position + len(examples)) if id_ is None else id_)
        examples.lines.append(line)
        examples.questions.append(question)
        examples.traces.append(trace)
        examples.final_answers.append(final_answer)
        examples.columns.append(content)
        examples.chats += not plain
    return examples, bad


# One row


def _question_and_trace(row: Row, columns: Columns) -> tuple[str, str, bool]:
    """And whether the question is one message of the user."""
    question, trace = columns.question, columns.trace
    if columns.messages is not None:
        column = columns.messages
        asked, answer = split(messages_of(_value(row, column), column), column)
        in_turns = True
    elif question is not None and trace is not None:
        column = question
        value = _value(row, question)
        in_turns = type(value) is list
        asked = messages_of(value, question) if in_turns else [Message(USER, _asked(row, question))]
        value = _value(row, trace)
        if type(value) is list:
            asked, answer = split([*asked, *_answers(value, trace)], trace)
        else:
            answer = _text(value, trace)
    else:
        raise ValueError("a mapping needs question and trace, or messages")
    asked = around(row, _parts(columns), asked, in_turns=in_turns)
    check_media(row, asked)
    return _sound(rendered(asked), column), _sound(answer, columns.messages or trace or ""), is_plain(asked)


def _parts(columns: Columns) -> frozenset[str | None]:
    return frozenset(getattr(columns, part) for part in PARTS)


def _asked(row: Row, column: str) -> str:
    text = _text(row[column], column)
    for name in GOES_ON if column == INSTRUCTION else ():
        more = row.get(name)
        if more is not None and type(more) is not str:
            raise BadField(name, f"must be a string, not {_kind(more)}")
        if more and not _is_empty(more):
            text += "\n\n" + _sound(more, name)
    return text


def _answers(value: object, column: str) -> list[Message]:
    """A completion as messages; they go on from the prompt."""
    answers = messages_of(value, column)
    if not answers[0].of_assistant and len(answers) > 1:
        raise BadField(
            column, f"is a whole conversation, not what is said after the question: say so with ?messages={column}"
        )
    if not answers[-1].of_assistant:
        raise BadField(column, f"must end with a message of the assistant, not of {answers[-1].role!r}")
    return answers


def _content(row: Row, max_row_bytes: int) -> bytes:
    """The row as it is kept and hashed: spacing and escapes do not make another data set."""
    try:
        content = to_json(row, inf_nan_mode="null")
    except PydanticSerializationError as error:
        raise BadField(None, f"cannot be kept as JSON: {error}") from error
    if len(content) > max_row_bytes:
        raise BadField(None, too_long(max_row_bytes))
    return content


def _value(row: Row, column: str) -> Any:
    value = row.get(column)
    if value is None:
        if column in row:
            raise BadField(column, "is null")
        raise BadField(column, f"is missing; the columns there are {', '.join(map(repr, [*row][:50])) or 'none'}")
    return value


def _text(value: object, column: str) -> str:
    if type(value) is not str:
        raise BadField(column, f"must be a string, not {_kind(value)}")
    return _sound(value, column)


def _sound(text: str, column: str) -> str:
    if _is_empty(text):
        raise BadField(column, "is empty")
    if "\0" in text:
        raise BadField(column, "holds a NUL character")
    return text


def _final_answer(row: Row, column: str) -> str | None:
    """Numbers become strings; null or absent: the grader takes the final answer out of the trace."""
    value = row.get(column)
    if value is None:
        return None
    if type(value) is float and value.is_integer() and abs(value) < 2**53:
        value = int(value)  # pandas makes floats of a column of integers where one is missing
    if type(value) in (int, float) or isinstance(value, Decimal):
        return str(value)
    if type(value) is not str:
        one = ": write the one answer itself" if type(value) is list else ""
        raise BadField(column, f"must be a string or a number, not {_kind(value)}{one}")
    if _is_empty(value):
        raise BadField(column, "is empty; write null where the final answer stands in the trace only")
    return _sound(value, column)


def _id(row: Row, column: str) -> str | None:
    """None: the row is to be numbered."""
    value = row.get(column)
    if value is None:
        return None
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    if type(value) is float and value.is_integer() and math.isfinite(value):
        value = int(value)
    if type(value) is int:
        value = str(value)
    if type(value) is not str:
        raise BadField(column, f"must be a string or a whole number, not {_kind(value)}")
    if len(value) > LONGEST_ID:
        raise BadField(column, f"is longer than {LONGEST_ID} characters")
    return _sound(value, column)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a string"}
    return names.get(type(value), type(value).__name__)
