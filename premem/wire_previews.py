"""Bodies of a look at a data set before it is used (see wire.py)."""

from __future__ import annotations

from pydantic import Field

from premem.wire import Dataset, Reply, Template


class PreviewRow(Reply):
    """One row as the model will see it."""

    row: int = Field(description="Position in the data set, from 0.")
    id: str
    prompt: str = Field(description="What is asked, the template filled in; in a chat what the user says.")
    target: str = Field(description="What is scored after it; in a chat what the assistant says.")


class Preview(Reply):
    dataset: Dataset
    template: Template = Field(
        description="With chat: the chat template of the checkpoint's tokenizer writes turns around prompt and target."
    )
    rows: list[PreviewRow]
