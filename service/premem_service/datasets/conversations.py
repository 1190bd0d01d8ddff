"""A conversation as question and trace: the last answer that was trained on, and everything that was said before it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from premem_service.datasets.formats import Row

ASSISTANT, SYSTEM, USER = "assistant", "system", "user"
_SHAREGPT_ROLES = {"human": USER, "gpt": ASSISTANT}
_CALLING_ROLES = frozenset({"function_call", "tool_call"})
"""Turns of the assistant that call a tool, where they have a role of their own."""
_ROLES = frozenset(
    {SYSTEM, "developer", USER, ASSISTANT, "tool", "function", "observation", "tool_response", "ipython"}
) | frozenset(_CALLING_ROLES)
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_CALLS = ("tool_calls", "function_call")
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_NOT_TRAINED_ON = {"weight": 0, "train": False, "training": False}

SYSTEM_COLUMNS = ("system", "system_prompt")
HISTORY, TOOLS = "history", "tools"
MEDIA = {"images": "<image>", "videos": "<video>", "audios": "<audio>"}
"""LLaMA-Factory's columns of files, and where the text shows them."""
AROUND = frozenset({*SYSTEM_COLUMNS, HISTORY, TOOLS, *MEDIA})
"""Columns that are part of what was asked, beside the question's own."""


class BadField(Exception):
    """A row cannot be taken; `field` is the column at fault, None the row as a whole."""

    def __init__(self, field: str | None, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str
    calls_tool: bool = False
    thoughts: str | None = None
    """The field that holds reasoning apart from the content."""
    trained_on: bool = True

    @property
    def of_assistant(self) -> bool:
        return self.role == ASSISTANT or self.role in _CALLING_ROLES


def messages_of(value: object, column: str) -> list[Message]:
    """Raises BadField, naming the message that cannot be read."""
    if type(value) is not list or not value:
        text = "; it is a string: send the list itself, not its text" if type(value) is str else ""
        raise BadField(column, f"must be a list of messages {{role, content}}, with at least one{text}")
    return [_message(one, place, column) for place, one in enumerate(value)]


def split(messages: Sequence[Message], column: str) -> tuple[list[Message], str]:
    """What was asked, and the trace: the assistant's last message that was trained on (OpenAI's `weight` is not 0)."""
    answers = [place for place, message in enumerate(messages) if message.of_assistant]
    if not answers:
        roles = ", ".join(repr(role) for role in dict.fromkeys(message.role for message in messages))
        raise BadField(column, f"holds no message of the assistant, whose last one is the trace; its roles are {roles}")
    trained = [place for place in answers if messages[place].trained_on]
    if not trained:
        raise BadField(column, "holds no message of the assistant that was trained on: each has the weight 0")
    place = trained[-1]
    if place == 0:
        raise BadField(column, "holds no message before the assistant's, so there is no question")
    _check_trace(messages[place], place, column)
    return list(messages[:place]), messages[place].content


def _check_trace(message: Message, place: int, column: str) -> None:
    if not message.content or message.content.isspace():
        raise BadField(column, f"message {place}, the last of the assistant, is empty")
    if message.calls_tool:
        raise BadField(
            column,
            f"message {place}, the last of the assistant, calls a tool, and only content that is a text can be scored: "
            "end the conversation at an answer in words, or leave the row out",
        )
    if message.thoughts is not None:
        raise BadField(
            column,
            f"message {place}, the last of the assistant, holds reasoning apart, in {message.thoughts!r}: write it into "
            "the content as the model was trained to say it",
        )


def is_plain(asked: Sequence[Message]) -> bool:
    """Whether a chat template with one message of the user asks just that."""
    return len(asked) == 1 and asked[0].role == USER


def rendered(asked: Sequence[Message]) -> str:
    """As one text: a single message is its content, several are `role: content` with a blank line between."""
    if len(asked) == 1:
        return asked[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in asked)


# One message


def _message(value: object, place: int, column: str) -> Message:
    if not isinstance(value, dict):
        alone = "; a text stands by itself, not in a list" if type(value) is str else ""
        raise BadField(column, f"message {place} is {_a(value)}, not an object {{role, content}}{alone}")
    role = value.get("role")
    content = value.get("content")
    if role is None and "from" in value:  # in ShareGPT's words
        role, content = value["from"], value.get("value") if content is None else content
    if type(role) is not str or ("content" not in value and "value" not in value and not _calls(value)):
        keys = ", ".join(map(repr, [*value][:20])) or "none"
        raise BadField(
            column, f"message {place} must be an object with a role and a content (or from and value); it has {keys}"
        )
    role = _SHAREGPT_ROLES.get(role, role)
    if role not in _ROLES:
        raise BadField(
            column,
            f"message {place} has the role {role!r}, which is not known: rename it to system, user, assistant or tool "
            "(ShareGPT's human and gpt are known, too)",
        )
    calls = _calls(value)
    return Message(
        role=role,
        content=_content(content, place, column, calls),
        calls_tool=bool(calls) or role in _CALLING_ROLES,
        thoughts=next((name for name in _THOUGHTS if value.get(name)), None),
        trained_on=not any(
            value.get(name) is not None and value[name] == untrained for name, untrained in _NOT_TRAINED_ON.items()
        ),
    )


def _calls(message: Row) -> dict[str, Any]:
    return {name: message[name] for name in _CALLS if message.get(name)}


def _content(content: object, place: int, column: str, calls: dict[str, Any]) -> str:
    """The message's text; a call of a tool is part of it, as JSON."""
    if content is None and not calls:
        raise BadField(column, f"message {place} has no content: it is null")
    if type(content) is list:
        content = "".join(_part(part, place, column) for part in content)
    elif content is not None and type(content) is not str:
        raise BadField(column, f"message {place}: the content must be a string, not {_a(content)}")
    called = [_as_json(call) for call in calls.values()]
    return "\n".join(filter(None, [content or "", *called]))


def _part(part: object, place: int, column: str) -> str:
    kind = part.get("type", "text") if isinstance(part, dict) else _a(part)
    if not isinstance(part, dict) or kind not in _TEXT_PARTS or type(part.get("text")) is not str:
        raise BadField(
            column, f"message {place} holds a part of the type {kind!r}; only texts can be asked: leave the row out"
        )
    text: str = part["text"]
    return text


def _as_json(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _a(value: object) -> str:
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")


# What stands in columns of its own


def around(row: Row, parts: frozenset[str | None], asked: list[Message], *, in_turns: bool) -> list[Message]:
    """What was asked, with the row's system message and earlier turns, which other columns hold.

    `parts`: the columns that play another part. `in_turns`: the question is a list of messages, so that `tools` are
    those that its chat offers.
    """
    before: list[Message] = []
    for column in SYSTEM_COLUMNS:
        text = _given(row, column, parts)
        if text is None:
            continue
        if type(text) is not str:
            raise BadField(column, f"is taken for the system message and must be a string, not {_a(text)}: rename it")
        if Message(SYSTEM, text) not in asked:
            before.append(Message(SYSTEM, text))
    tools = _given(row, TOOLS, parts) if in_turns else None
    if tools is not None and str(tools).strip() not in ("[]", "{}", ""):
        before.append(Message(TOOLS, _as_json(tools)))
    turns = _given(row, HISTORY, parts)
    if turns is not None:
        before += _history(turns)
    return before + asked


def _given(row: Row, column: str, parts: frozenset[str | None]) -> Any:
    value = None if column in parts else row.get(column)
    return value if value and not (isinstance(value, str) and value.isspace()) else None


def _history(turns: object) -> list[Message]:
    messages = []
    for place, turn in enumerate(turns if isinstance(turns, list) else [turns]):
        if not isinstance(turn, list) or len(turn) != 2 or not all(type(text) is str for text in turn):
            raise BadField(
                HISTORY,
                f"is taken for the earlier turns and must be a list of pairs of strings, [asked, answered]; its entry "
                f"{place} is none: write it so, or rename the column",
            )
        messages += [Message(USER, turn[0]), Message(ASSISTANT, turn[1])]
    return messages


def check_media(row: Row, asked: Sequence[Message]) -> None:
    """Raises BadField where the question shows a file."""
    for column, shown in MEDIA.items():
        if row.get(column) and any(shown in message.content for message in asked):
            raise BadField(column, f"is shown in the question, at {shown}; only texts can be asked: leave the row out")
