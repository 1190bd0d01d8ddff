"""Bodies about previews: rows of a data set as the model will see them."""

from __future__ import annotations

from pydantic import Field

from premem.wire.bodies import Reply
from premem.wire.datasets import Dataset
from premem.wire.jobs import Template


class PreviewTokens(Reply):
    """Prompt and target as tokens of a checkpoint's tokenizer."""

    texts: list[str] = Field(
        description="The text of each token, in order; joined they are prompt and target. Empty: a special token at the "
        "start, or a further byte of a character."
    )
    target_start: int = Field(description="Index of the first token that is scored; all later ones are scored, too.")
    shifted: bool = Field(description="True: that token begins in the prompt, merged with its end.")


class PreviewRow(Reply):
    """One row as the model will see it."""

    row: int = Field(description="Position in the data set, from 0.")
    id: str
    prompt: str = Field(description="The prompt with the row filled in; in a chat the user's turn.")
    target: str = Field(description="The scored text after the prompt; in a chat the assistant's turn.")
    tokens: PreviewTokens | None = Field(None, description="Null without a checkpoint whose tokenizer can be read.")


class Preview(Reply):
    """The first rows of a data set under a template."""

    dataset: Dataset
    template: Template = Field(
        description="With chat, the chat template of the checkpoint's tokenizer is put around prompt and target."
    )
    rows: list[PreviewRow]
    untokenized: str | None = Field(
        None, description="Why there are no tokens, though a checkpoint was named for them; null otherwise."
    )
