"""Bodies of a look at a data set before it is used (see wire.py)."""

from __future__ import annotations

from pydantic import Field

from premem.wire.bodies import Reply
from premem.wire.datasets import Dataset
from premem.wire.jobs import Template


class PreviewTokens(Reply):
    """What a checkpoint's tokenizer makes of prompt and target."""

    texts: list[str] = Field(
        description="What each token covers, in order; joined they are prompt and target. Empty: a token in front of a text, "
        "or a further byte of a character."
    )
    target_start: int = Field(description="Place of the first token that is scored; so is every one behind it.")
    shifted: bool = Field(description="True: the first of them begins in the prompt, merged with its end.")


class PreviewRow(Reply):
    """One row as the model will see it."""

    row: int = Field(description="Position in the data set, from 0.")
    id: str
    prompt: str = Field(description="What is asked, the template filled in; in a chat what the user says.")
    target: str = Field(description="What is scored after it; in a chat what the assistant says.")
    tokens: PreviewTokens | None = Field(
        None, description="Where a checkpoint was named whose tokenizer could be read."
    )


class Preview(Reply):
    dataset: Dataset
    template: Template = Field(
        description="With chat: the chat template of the checkpoint's tokenizer writes turns around prompt and target."
    )
    rows: list[PreviewRow]
    untokenized: str | None = Field(
        None, description="Why there are no tokens, though a checkpoint was named for them; null otherwise."
    )
