from __future__ import annotations

import json

import pytest

from premem.errors import BadLine, RowsError
from premem.wire.datasets import Columns
from premem_service.datasets.rows import Examples, mapping, read

CHAT = [{"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "5"}]


def one(row: dict[str, object], **columns: str) -> tuple[str, str, str, str | None]:
    """The example in a row: id, question, trace, final answer."""
    examples, bad = read_all([row], **columns)
    assert not bad
    return examples.ids[0], examples.questions[0], examples.traces[0], examples.final_answers[0]


def read_all(rows: list[dict[str, object]], **columns: str) -> tuple[Examples, list[BadLine]]:
    found = mapping(Columns(**columns), list(rows[0]))
    return read((range(1, len(rows) + 1), rows), found, position=0, max_row_bytes=2**20)


def fault(row: dict[str, object], **columns: str) -> tuple[str | None, str]:
    """Of the second of three rows; the first and the third are `row` with everything mended."""
    good = {"question": "q", "trace": "t", "final_answer": "a", "id": "1"}
    examples, (bad,) = read_all([good, row, {**good, "id": "3"}], **columns)
    assert examples.ids == ["1", "3"]
    assert bad.line == 2
    return bad.field, bad.message


@pytest.mark.parametrize(
    ("present", "question", "trace", "final_answer"),
    [
        (["question", "answer"], "question", "answer", None),
        (["prompt", "solution"], "prompt", "solution", None),
        (["question", "trace", "answer"], "question", "trace", "answer"),
        (["question", "solution", "answer", "final_answer"], "question", "solution", "final_answer"),
        (["prompt", "question", "trace", "solution"], "question", "trace", None),
        (["question", "answer", "final_answer"], "question", "answer", "final_answer"),
    ],
)
def test_columns_are_found_by_their_usual_names(present, question, trace, final_answer):
    found = mapping(Columns(), present)

    assert (found.question, found.trace, found.final_answer) == (question, trace, final_answer)


def test_columns_can_be_named():
    asked = Columns(question="problem", trace="answer", final_answer="gold", id="key")

    assert mapping(asked, ["problem", "question", "answer", "gold", "id", "key"]) == asked


def test_a_named_column_plays_no_second_part():
    found = mapping(Columns(final_answer="answer"), ["question", "answer", "solution"])

    assert (found.trace, found.final_answer) == ("solution", "answer")


def test_messages_stand_for_question_and_trace_where_one_is_missing():
    assert mapping(Columns(), ["messages"]).messages == "messages"
    assert mapping(Columns(), ["prompt", "messages"]).messages == "messages"
    assert mapping(Columns(), ["question", "answer", "messages"]).messages is None
    assert mapping(Columns(), ["messages", "answer"]).final_answer == "answer"


def test_a_missing_column_names_those_that_are_there_and_says_how_to_map():
    with pytest.raises(RowsError) as caught:
        mapping(Columns(), ["puzzle", "answer"], line=3)

    assert str(caught.value) == (
        "no column holds the question; the columns of line 3 are 'puzzle', 'answer'; "
        "say which one it is with ?question=NAME"
    )
    assert caught.value.lines == [BadLine(3, "question", "no column holds the question")]


def test_a_missing_trace_and_a_wrong_name_are_told_apart():
    with pytest.raises(RowsError, match=r"no column holds the trace.*\?trace=NAME"):
        mapping(Columns(), ["question"])
    with pytest.raises(RowsError, match="the column 'problem', asked for as question, is not there"):
        mapping(Columns(question="problem"), ["question", "answer"])
    with pytest.raises(RowsError, match="either messages, or question and trace"):
        mapping(Columns(messages="messages", trace="answer"), ["messages", "answer"])


def test_a_row_becomes_an_example():
    assert one({"question": "q", "answer": "t"}) == ("0", "q", "t", None)
    assert one({"id": "x", "prompt": "q", "trace": "t", "answer": "a"}) == ("x", "q", "t", "a")


@pytest.mark.parametrize(("number", "text"), [(5, "5"), (-1, "-1"), (0.5, "0.5"), (42.0, "42"), (None, None)])
def test_a_final_answer_that_is_a_number_becomes_a_string(number, text):
    assert one({"question": "q", "trace": "t", "answer": number})[3] == text


def test_an_id_may_be_a_whole_number():
    assert one({"question": "q", "answer": "t", "id": 7})[0] == "7"
    assert one({"messages": CHAT, "id": 7.0})[0] == "7"


def test_rows_without_ids_are_numbered_from_where_the_batch_begins():
    rows = [{"question": "q", "answer": "t"}] * 3

    examples, _ = read((range(1, 4), rows), mapping(Columns(), ["question", "answer"]), position=10, max_row_bytes=99)

    assert examples.ids == ["10", "11", "12"]


def test_every_original_column_is_kept():
    row = {"z": [1, {"é": None}], "question": "q", "answer": "t", "a": 0.1}

    examples, _ = read_all([row])

    assert list(json.loads(examples.columns[0]).items()) == list(row.items())


def test_the_last_assistant_message_is_the_trace_and_a_single_message_before_it_the_question():
    assert one({"messages": CHAT}) == ("0", "2 + 3?", "5", None)


def test_several_messages_before_the_trace_are_rendered_with_their_roles():
    messages = [{"role": "system", "content": "Add."}, *CHAT, {"role": "user", "content": "And 4?"}]
    messages += [{"role": "assistant", "content": "9"}]

    _, question, trace, _ = one({"messages": messages})

    assert question == "system: Add.\n\nuser: 2 + 3?\n\nassistant: 5\n\nuser: And 4?"
    assert trace == "9"


def test_messages_may_hold_parts_of_text():
    parts = [{"type": "text", "text": "2 + "}, {"type": "text", "text": "3?"}]

    assert one({"messages": [{"role": "user", "content": parts}, CHAT[1]]})[1] == "2 + 3?"


def test_prompt_and_completion_may_be_messages():
    row = {"prompt": [CHAT[0]], "completion": [CHAT[1]]}

    assert one(row, trace="completion") == ("0", "2 + 3?", "5", None)


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"question": ""}, "question", "is empty"),
        ({"question": " \n"}, "question", "is empty"),
        ({"trace": ""}, "trace", "is empty"),
        ({"trace": None}, "trace", "is null"),
        ({"trace": 5}, "trace", "must be a string, not a number"),
        ({"trace": True}, "trace", "must be a string, not true or false"),
        ({"question": {"a": 1}}, "question", "must be a string, not an object"),
        ({"question": []}, "question", "must be a list of messages {role, content}, with at least one"),
        (
            {"question": [{"role": 1}]},
            "question",
            "message 0 must be an object with a role and a content (or from and value); it has 'role'",
        ),
        ({"trace": "a\0b"}, "trace", "holds a NUL character"),
        ({"final_answer": ""}, "final_answer", "is empty; write null where the final answer stands in the trace only"),
        ({"final_answer": True}, "final_answer", "must be a string or a number, not true or false"),
        (
            {"final_answer": ["5"]},
            "final_answer",
            "must be a string or a number, not a list: write the one answer itself",
        ),
        ({"id": 1.5}, "id", "must be a string or a whole number, not a number"),
        ({"id": "x" * 501}, "id", "is longer than 500 characters"),
        ({"id": ""}, "id", "is empty"),
    ],
)
def test_a_field_that_cannot_be_taken_is_named(change: dict[str, object], field: str, message: str):
    row = {"question": "q", "trace": "t", "final_answer": "a", "id": "2", **change}

    assert fault(row) == (field, message)


def test_a_row_without_a_column_names_those_that_it_has():
    assert fault({"question": "q", "id": "2"}) == ("trace", "is missing; the columns there are 'question', 'id'")


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([CHAT[0]], "holds no message of the assistant, whose last one is the trace"),
        ([CHAT[1]], "holds no message before the assistant's, so there is no question"),
        ([CHAT[0], {"role": "assistant", "content": ""}], "is empty"),
        ("text", "must be a list of messages {role, content}, with at least one"),
        (
            [CHAT[0], {"role": "assistant", "content": [{"type": "image"}]}],
            "message 1 holds a part of the type 'image'",
        ),
    ],
)
def test_a_conversation_that_cannot_be_taken_says_why(messages: object, message: str):
    _, bad = read_all([{"messages": CHAT}, {"messages": messages}])

    assert [(line.line, line.field) for line in bad] == [(2, "messages")]
    assert message in bad[0].message


def test_a_row_that_grows_past_the_limit_is_refused():
    row = {"question": "q", "answer": "t" * 100}

    _, bad = read((range(1, 2), [row]), mapping(Columns(), list(row)), position=0, max_row_bytes=100)

    assert bad == [BadLine(1, None, "is longer than 100 bytes, the most that one row may have")]
