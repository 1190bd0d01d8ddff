"""What a text says as its answer: without the thoughts before it, and without the signs that end a turn.

Reasoning models write their thoughts between tags, `<think>` and `</think>` or others. What stands in them is no
answer, even where it holds a box or a mark. Thoughts that never end were cut off, and such a text has no answer.
"""

from __future__ import annotations

import re

_NAMES = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reasoning|scratchpad|reflection|analysis)"
_HINT = re.compile(r"<[/|｜a-zA-Z]|\[/?THINK|◁|<channel")
_OPENS = re.compile(
    rf"<{_NAMES}>|<\|begin_of_thought\|>|\[THINK\]|◁think▷|<\|channel\|>(?:analysis|commentary)|<\|channel>thought",
    re.IGNORECASE,
)
_CLOSES = re.compile(
    rf"</{_NAMES}>|<\|end_of_thought\|>|\[/THINK\]|◁/think▷|<\|channel\|>final(?:<\|message\|>)?|<channel\|>",
    re.IGNORECASE,
)
_STARTS = re.compile(
    r"(?:\s*+(?:<s>|<bos>|<\|?start_of_turn\|?>(?:model\n?)?|<\|(?:begin_of_text|startoftext|begin_of_solution|message)\|>"
    r"|<\|im_start\|>(?:assistant\n?)?|<\|start_header_id\|>assistant<\|end_header_id\|>|<\|assistant\|>))*+"
)
_ENDS = re.compile(
    r"</s>|<\|?(?:eos|end_of_turn|turn)\|?>|<[|｜](?:im_end|im_start|eot_id|eom_id|end_of_text|endoftext|return|end|EOT"
    r"|user|start|start_header_id|endofassistant|end_of_solution|end▁of▁sentence)[|｜]>"
)
_TAGS = re.compile(r"<(?:final_?)?answer>(?P<held>.*?)(?:</(?:final_?)?answer>|\Z)", re.IGNORECASE | re.DOTALL)


def spoken(text: str) -> str:
    """What follows the last thought; empty where a thought does not end. Linear in the length of the text."""
    if _HINT.search(text) is None:
        return text
    closed = 0
    for close in _CLOSES.finditer(text):
        closed = close.end()
    if _OPENS.search(text, closed):
        return ""
    if closed:
        text = text[closed:].lstrip()
    if start := _STARTS.match(text):
        text = text[start.end() :]
    end = _ENDS.search(text)
    return text[: end.start()].rstrip() if end else text


def tagged(text: str) -> str | None:
    """What the last `<answer>` holds, without white space at both ends; None where there is none, or it is empty."""
    if "nswer>" not in text and "NSWER>" not in text:
        return None
    held = [match["held"].strip() for match in _TAGS.finditer(text)]
    return next((found for found in reversed(held) if found), None)


def names_thoughts(pattern: str) -> bool:
    """Whether a mark or pattern of the user's own is about the tags that `spoken` takes away."""
    return re.search(rf"{_NAMES}|THINK|channel|<\||</?s>|eos", pattern, re.IGNORECASE) is not None
