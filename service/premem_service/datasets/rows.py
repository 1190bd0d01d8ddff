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
from premem_service.datasets.formats import Batch, Row, too_long

INSTRUCTION, INPUT = "instruction", "input"  # of Alpaca: the input, where there is one, goes on from the instruction
QUESTION = ("question", "prompt", INSTRUCTION)
TRACE = ("trace", "solution")
COMPLETION = ("completion", "output", "response")
ANSWER = "answer"  # the trace where there is no other, else the final answer
FINAL_ANSWER = ("final_answer", ANSWER)
MESSAGES = ("messages", "conversations")
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}
ID = "id"
PARTS = ("question", "trace", "final_answer", "id", "messages")

LONGEST_ID = 500


class BadField(Exception):
    """A row cannot be taken; `field` is the column at fault, None the row as a whole."""

    def __init__(self, field: str | None, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def mapping(asked: Columns, present: Sequence[str], *, line: int = 1) -> Columns:
    """Which column plays which part, out of the names that a data set's first row (on `line`) has.

    question: `question`, else `prompt`, else `instruction`, which an `input` beside it goes on from. trace: `trace`, else
    `solution`, `answer`, `completion`, `output`, `response`. final_answer: `final_answer`, else `answer` where that is
    not the trace. Where question or trace is missing, `messages` or `conversations` stands for both. `id` is the row's
    number where there is no such column. Raises RowsError, naming the columns that are there.
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

    def __len__(self) -> int:
        return len(self.lines)


def read(batch: Batch, columns: Columns, *, position: int, max_row_bytes: int) -> tuple[Examples, list[BadLine]]:
    """The examples in a batch by this mapping, and what cannot be taken.

    `position` is the first row's in the data set: where no column holds ids, positions are the ids.
    """
    return _read_sound(batch, columns, position, max_row_bytes) or _read_each(batch, columns, position, max_row_bytes)


def _read_sound(
    batch: Batch, columns: Columns, position: int, max_row_bytes: int
) -> tuple[Examples, list[BadLine]] | None:
    """A whole batch at once where nothing is wrong with any row, as is usual (twice as fast); else None."""
    lines, rows = batch
    if columns.messages is not None or columns.question == INSTRUCTION or not _all_rows(rows):
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
        _all_sound(questions)
        and _all_sound(traces)
        and _all_sound(ids)
        and (columns.final_answer is None or _all_sound(final_answers))
        and max(map(len, ids)) <= LONGEST_ID
        and max(map(len, contents)) <= max_row_bytes
    )
    return (Examples(list(lines), ids, questions, traces, final_answers, contents), []) if sound else None


def _all_rows(rows: Sequence[Row | BadLine]) -> TypeGuard[Sequence[Row]]:
    return {type(row) for row in rows} == {dict}


def _column(rows: Sequence[Row], name: str | None) -> list[Any]:
    return [None] * len(rows) if name is None else [row.get(name) for row in rows]


def _all_sound(texts: Sequence[Any]) -> bool:
    """What `_sound` asks of one text."""
    kinds = {type(text) for text in texts}
    return kinds == {str} and all(texts) and not any(map(str.isspace, texts)) and "\0" not in "".join(texts)


def _is_empty(text: str) -> bool:
    return not text or text.isspace()


def _read_each(batch: Batch, columns: Columns, position: int, max_row_bytes: int) -> tuple[Examples, list[BadLine]]:
    examples = Examples([], [], [], [], [], [])
    bad = []
    for line, row in zip(*batch, strict=True):
        if isinstance(row, BadLine):
            bad.append(row)
            continue
        try:
            question, trace = _question_and_trace(row, columns)
            final_answer = None if columns.final_answer is None else _final_answer(row, columns.final_answer)
            id_ = str(position + len(examples)) if columns.id is None else _id(row, columns.id)
            content = _content(row, max_row_bytes)
        except BadField as error:
            bad.append(BadLine(line, error.field, error.message))
            continue
        examples.lines.append(line)
        examples.ids.append(id_)
        examples.questions.append(question)
        examples.traces.append(trace)
        examples.final_answers.append(final_answer)
        examples.columns.append(content)
    return examples, bad


# One row


def _question_and_trace(row: Row, columns: Columns) -> tuple[str, str]:
    if columns.messages is not None:
        return _conversation(row, columns.messages)
    if columns.question is None or columns.trace is None:
        raise ValueError("a mapping needs question and trace, or messages")
    question = _text(row, columns.question, reply=False)
    more = row.get(INPUT) if columns.question == INSTRUCTION else None
    if more is not None and type(more) is not str:
        raise BadField(INPUT, f"must be a string, not {_kind(more)}")
    if more and not _is_empty(more):
        question += "\n\n" + _sound(more, INPUT)
    return question, _text(row, columns.trace, reply=True)


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


def _text(row: Row, column: str, *, reply: bool) -> str:
    value = _value(row, column)
    if type(value) is list:
        messages = _messages(value, column)
        value = messages[-1][1] if reply else rendered(messages)
    elif type(value) is not str:
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
        raise BadField(column, f"must be a string or a number, not {_kind(value)}")
    if _is_empty(value):
        raise BadField(column, "is empty; write null where the final answer stands in the trace only")
    return _sound(value, column)


def _id(row: Row, column: str) -> str:
    value = _value(row, column)
    if type(value) is float and value.is_integer() and math.isfinite(value):
        value = int(value)
    if type(value) is int:
        value = str(value)
    if type(value) is not str:
        raise BadField(column, f"must be a string or a whole number, not {_kind(value)}")
    if len(value) > LONGEST_ID:
        raise BadField(column, f"is longer than {LONGEST_ID} characters")
    return _sound(value, column)


# Conversations


def _conversation(row: Row, column: str) -> tuple[str, str]:
    """Question and trace: what comes before the last message of the assistant, and that message."""
    messages = _messages(_value(row, column), column)
    last = max((place for place, (role, _) in enumerate(messages) if role == "assistant"), default=None)
    if last is None:
        raise BadField(column, "holds no message of the assistant, whose last one is the trace")
    if last == 0:
        raise BadField(column, "holds no message before the assistant's, so there is no question")
    return _sound(rendered(messages[:last]), column), _sound(messages[last][1], column)


def _messages(value: object, column: str) -> list[tuple[str, str]]:
    """Roles and contents."""
    if type(value) is not list or not value:
        raise BadField(column, "must be a list of messages {role, content}, with at least one")
    messages = []
    for place, message in enumerate(value):
        role, content = _said(message) if isinstance(message, dict) else (None, None)
        if type(content) is list and all(_is_text_part(part) for part in content):
            content = "".join(part["text"] for part in content)
        if type(role) is not str or type(content) is not str:
            raise BadField(column, f"message {place} must be an object with a role and a content, both strings")
        messages.append((role, content))
    return messages


def _said(message: Row) -> tuple[Any, Any]:
    """Role and content, in ShareGPT's words too."""
    if "role" not in message and "from" in message:
        role = message["from"]
        return SHAREGPT_ROLES.get(role, role) if type(role) is str else role, message.get("value")
    return message.get("role"), message.get("content")


def _is_text_part(part: object) -> bool:
    return isinstance(part, dict) and part.get("type", "text") == "text" and type(part.get("text")) is str


def rendered(messages: Sequence[tuple[str, str]]) -> str:
    """A conversation as one text: a single message is its content, several are `role: content` with a blank line between."""
    if len(messages) == 1:
        return messages[0][1]
    return "\n\n".join(f"{role}: {content}" for role, content in messages)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a string"}
    return names.get(type(value), type(value).__name__)
