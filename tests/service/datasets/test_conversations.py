"""Conversations: what is asked, what is the trace, and that nothing that was said is dropped."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from premem.errors import BadLine
from premem.wire.datasets import Columns
from premem_service.datasets.rows import Examples, mapping, read
from tests.service.datasets.uploading import jsonl, refused, upload

ASKED = {"role": "user", "content": "4 + 5?"}
ANSWERED = {"role": "assistant", "content": "#### 9"}
BRIEF = {"role": "system", "content": "Be brief."}
CALL = {"id": "c7", "type": "function", "function": {"name": "add", "arguments": '{"a": 4}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c7", "content": "9"}


def read_one(row: dict[str, Any], **columns: str) -> tuple[Examples, list[BadLine]]:
    return read(([1], [row]), mapping(Columns(**columns), list(row)), position=0, max_row_bytes=2**20)


def example(row: dict[str, Any], **columns: str) -> tuple[str, str, int]:
    """Question, trace, and 1 for a chat of several messages."""
    examples, bad = read_one(row, **columns)
    assert bad == []
    return examples.questions[0], examples.traces[0], examples.chats


def fault(row: dict[str, Any], **columns: str) -> tuple[str | None, str]:
    _, (bad,) = read_one(row, **columns)
    return bad.field, bad.message


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"messages": [ASKED, ANSWERED]}, "4 + 5?"),
        ({"conversation": [ASKED, ANSWERED]}, "4 + 5?"),
        ({"dialog": [{"from": "human", "value": "4 + 5?"}, {"from": "gpt", "value": "#### 9"}]}, "4 + 5?"),
        ({"messages": [{**ASKED, "from": None, "value": None}, ANSWERED]}, "4 + 5?"),
        ({"prompt": [ASKED], "completion": [ANSWERED]}, "4 + 5?"),
        ({"prompt": "4 + 5?", "completion": [ANSWERED]}, "4 + 5?"),
        ({"prompt": [ASKED], "completion": "#### 9"}, "4 + 5?"),
        ({"messages": [ASKED, ANSWERED, ASKED]}, "4 + 5?"),
        ({"messages": [{"role": "user", "content": [{"type": "input_text", "text": "4 + 5?"}]}, ANSWERED]}, "4 + 5?"),
        ({"instruction": "Add.", "context": "4 and 5", "response": "#### 9"}, "Add.\n\n4 and 5"),
    ],
)
def test_one_question_and_its_answer_are_asked_as_they_are(row: dict[str, Any], question: str):
    assert example(row) == (question, "#### 9", 0)


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"messages": [BRIEF, ASKED, ANSWERED]}, "system: Be brief.\n\nuser: 4 + 5?"),
        (
            {"messages": [{**BRIEF, "role": "developer"}, ASKED, ANSWERED]},
            "developer: Be brief.\n\nuser: 4 + 5?",
        ),
        ({"messages": [BRIEF, ANSWERED]}, "Be brief."),
        ({"prompt": [BRIEF, ASKED], "completion": [ANSWERED]}, "system: Be brief.\n\nuser: 4 + 5?"),
        ({"messages": [ASKED, ANSWERED], "system": "Be brief."}, "system: Be brief.\n\nuser: 4 + 5?"),
        ({"messages": [BRIEF, ASKED, ANSWERED], "system": "Be brief."}, "system: Be brief.\n\nuser: 4 + 5?"),
        (
            {"question": "4 + 5?", "response": "#### 9", "system_prompt": "Be brief."},
            "system: Be brief.\n\nuser: 4 + 5?",
        ),
        (
            {"instruction": "4 + 5?", "output": "#### 9", "history": [["1 + 1?", "2"]]},
            "user: 1 + 1?\n\nassistant: 2\n\nuser: 4 + 5?",
        ),
        (
            {"messages": [ASKED, CALLING, RESULT, ANSWERED]},
            f"user: 4 + 5?\n\nassistant: {json.dumps([CALL])}\n\ntool: 9",
        ),
        (
            {"messages": [ASKED, ANSWERED], "tools": '[{"name": "add"}]'},
            'tools: [{"name": "add"}]\n\nuser: 4 + 5?',
        ),
        (
            {"prompt": [ASKED], "completion": [{**CALLING, "content": "I add."}, RESULT, ANSWERED]},
            f"user: 4 + 5?\n\nassistant: I add.\n{json.dumps([CALL])}\n\ntool: 9",
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "4 + 5?"},
                    {"from": "function_call", "value": "add(4, 5)"},
                    {"from": "observation", "value": "9"},
                    {"from": "gpt", "value": "#### 9"},
                ]
            },
            "user: 4 + 5?\n\nfunction_call: add(4, 5)\n\nobservation: 9",
        ),
    ],
)
def test_all_that_was_said_before_the_answer_is_asked_and_the_row_counts_as_a_chat(row: dict[str, Any], question: str):
    assert example(row) == (question, "#### 9", 1)


@pytest.mark.parametrize(
    "around", [{"system": ""}, {"system": None}, {"history": []}, {"history": None}, {"system_prompt": " "}]
)
def test_an_empty_system_message_or_history_says_nothing(around: dict[str, Any]):
    assert example({"instruction": "4 + 5?", "output": "#### 9", **around}) == ("4 + 5?", "#### 9", 0)


def test_a_history_is_found_in_a_row_though_the_first_row_has_none():
    rows = [{"prompt": "1 + 1?", "output": "2"}, {"prompt": "And 3?", "output": "5", "history": [["1 + 1?", "2"]]}]

    examples, _ = read(([1, 2], rows), mapping(Columns(), list(rows[0])), position=0, max_row_bytes=2**20)

    assert examples.questions[1] == "user: 1 + 1?\n\nassistant: 2\n\nuser: And 3?"
    assert examples.chats == 1


@pytest.mark.parametrize("mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"training": False}])
def test_an_answer_that_was_not_trained_on_is_not_the_trace(mark: dict[str, Any]):
    messages = [ASKED, {**ANSWERED, "weight": 1}, {"role": "user", "content": "Sure?"}, {**ANSWERED, **mark}]

    assert example({"messages": messages}) == ("4 + 5?", "#### 9", 0)
    assert fault({"messages": [ASKED, {**ANSWERED, **mark}]}) == (
        "messages",
        "holds no message of the assistant that was trained on: each has the weight 0",
    )


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([ASKED, {"role": "bot", "content": "9"}], "message 1 has the role 'bot', which is not known"),
        (
            [BRIEF, ASKED],
            "holds no message of the assistant, whose last one is the trace; its roles are 'system', 'user'",
        ),
        ([ASKED, CALLING], "message 1, the last of the assistant, calls a tool"),
        ([ASKED, {**ANSWERED, "content": ""}], "message 1, the last of the assistant, is empty"),
        ([ASKED, {**ANSWERED, "reasoning_content": "4, then 5"}], "holds reasoning apart, in 'reasoning_content'"),
        ([{"role": "user", "content": None}, ANSWERED], "message 0 has no content: it is null"),
        ([{"role": "user", "content": {"a": 1}}, ANSWERED], "message 0: the content must be a string, not an object"),
        ([{"role": "user", "content": [{"type": "image"}]}, ANSWERED], "message 0 holds a part of the type 'image'"),
        ([{"human": "4 + 5?", "gpt": "9"}], "(or from and value); it has 'human', 'gpt'"),
        (["4 + 5?", "9"], "message 0 is a string, not an object {role, content}"),
        (json.dumps([ASKED, ANSWERED]), "it is a string: send the list itself, not its text"),
    ],
)
def test_what_is_no_conversation_that_can_be_asked_is_named(messages: object, named: str):
    field, message = fault({"messages": messages})

    assert field == "messages"
    assert named in message


@pytest.mark.parametrize(
    ("row", "field", "named"),
    [
        ({"history": [["only one"]]}, "history", "must be a list of pairs of strings, [asked, answered]"),
        ({"history": "1 + 1?"}, "history", "or rename the column"),
        ({"system": 7}, "system", "is taken for the system message and must be a string, not a number: rename it"),
        ({"input": {"a": 1}}, "input", "must be a string, not an object"),
    ],
)
def test_what_stands_around_a_question_is_named_where_it_cannot_be_read(row: dict[str, Any], field: str, named: str):
    found, message = fault({"instruction": "4 + 5?", "output": "#### 9", **row})

    assert found == field
    assert named in message


def test_an_image_beside_the_text_that_shows_it_is_refused():
    shown = [{"role": "user", "content": "<image>How many?"}, ANSWERED]

    assert fault({"messages": shown, "images": ["cats.png"]})[0] == "images"
    assert example({"messages": shown, "images": []})[0] == "<image>How many?"


def test_a_completion_that_repeats_the_whole_conversation_is_refused():
    row = {"prompt": "4 + 5?", "chosen": [ASKED, ANSWERED]}

    field, message = fault(row, trace="chosen")

    assert field == "chosen"
    assert "?messages=chosen" in message
    assert example(row, messages="chosen") == ("4 + 5?", "#### 9", 0)


def test_a_prompt_ends_with_the_answer_only():
    field, message = fault({"prompt": "4 + 5?", "completion": [ASKED]})

    assert (field, message) == ("completion", "must end with a message of the assistant, not of 'user'")


def chat_of(client: TestClient, dataset: str, **changes: Any) -> Any:
    body = {
        "dataset": dataset,
        "checkpoints": [{"path": "/runs/1"}],
        "memorized_below": 1.2,
        "template": {"chat": True},
    }
    return client.post("/v1/jobs", json={**body, **changes})


def test_a_chat_template_is_refused_for_rows_of_several_messages(client: TestClient):
    plain = upload(client, jsonl([{"messages": [ASKED, ANSWERED]}]))
    chats = upload(client, jsonl([{"messages": [ASKED, ANSWERED]}, {"messages": [BRIEF, ASKED, ANSWERED]}]))

    refusals = [
        chat_of(client, chats["id"]),
        chat_of(client, plain["id"], test_dataset=chats["id"]),
        client.post(
            "/v1/jobs",
            params={"dry_run": True},
            json={"dataset": chats["id"], "checkpoints": [{"path": "/runs/1"}], "template": {"chat": True}},
        ),
        client.get(f"/v1/datasets/{chats['id']}/preview", params={"chat": True}),
    ]

    assert (plain["chats"], chats["chats"]) == (0, 1)
    assert chat_of(client, plain["id"]).status_code == 202
    assert chat_of(client, chats["id"], template={}).status_code == 202
    for refusal in refusals:
        assert refusal.status_code == 422
        assert "1 of the 2 rows" in refusal.json()["detail"]
        assert "--system" in refusal.json()["detail"]


def test_an_object_around_the_rows_is_named(client: TestClient):
    row = {"question": "4 + 5?", "answer": "#### 9"}

    for content in (
        json.dumps({"data": [row, row]}),
        json.dumps({"version": 2, "data": [row]}, indent=2),
        json.dumps({"data": [row]}, indent=1),
    ):
        detail = refused(client, content.encode())["detail"]
        assert "around a list of" in detail
        assert "'data'" in detail
        assert "jq -c" in detail
