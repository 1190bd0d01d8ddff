"""The first rows of a data set as prompt and target: what a template makes of them, before anything is scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import ValidationError

from premem.errors import CheckpointError
from premem.wire.jobs import Template
from premem.wire.previews import Preview, PreviewRow
from premem_service.datasets.reading import check_template, read_rows
from premem_service.datasets.routes import get_dataset
from premem_service.datasets.tokens import FileTokenizer, tokenizer_of
from premem_service.http.dependencies import DatabaseGiven, SettingsGiven, StoreGiven
from premem_service.http.problems import FieldError, described

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
Text = Annotated[str | None, Query(max_length=10_000)]


@router.get("/{dataset}/preview", responses=described(401, 404, 422, 500, 503))
def get_preview(
    dataset: str,
    database: DatabaseGiven,
    store: StoreGiven,
    settings: SettingsGiven,
    rows: Annotated[int, Query(ge=1, le=100, description="At most so many.")] = 3,
    prompt: Text = None,
    target: Text = None,
    chat: bool = False,
    system: Text = None,
    checkpoint: Annotated[
        str | None, Query(min_length=1, max_length=4096, description="Whose tokenizer's tokens are shown, too.")
    ] = None,
) -> Preview:
    """The first rows under a template (absent: the paper's), and the columns that they were taken from.

    Of a chat what user and assistant say: the turns around that are written by each checkpoint's own tokenizer. With a
    checkpoint that the service may read (PREMEM_CHECKPOINT_ROOTS) also the tokens, and which of them are scored; where it
    may not, or cannot, `untokenized` says why.
    """
    about = get_dataset(dataset, database)
    template_fields = {"prompt": prompt, "target": target, "chat": chat, "system": system}
    try:
        template = Template.model_validate(
            {name: value for name, value in template_fields.items() if value is not None}
        )
    except ValidationError as error:
        fault = error.errors()[0]
        named = fault["loc"] or ("system",)  # the only one that another one forbids
        raise FieldError(str(named[0]), fault["msg"].removeprefix("Value error, ")) from error
    check_template(database, dataset, template, field="chat")
    tokenizer, untokenized = _tokenizer(checkpoint, template, settings.checkpoint_roots)
    frame = read_rows(database, store, dataset, 0, min(rows, about.rows))
    shown = [
        PreviewRow(row=row, id=id_, prompt=template.render_prompt(question), target=template.render_target(trace))
        for row, id_, question, trace in frame.select("row", "id", "question", "trace").iter_rows()
    ]
    if tokenizer is not None:
        for one in shown:
            one.tokens = tokenizer.split(one.prompt, one.target)
    return Preview(dataset=about, template=template, rows=shown, untokenized=untokenized)


def _tokenizer(
    checkpoint: str | None, template: Template, roots: Sequence[Path]
) -> tuple[FileTokenizer | None, str | None]:
    """Or why there is none, though a checkpoint was named."""
    if checkpoint is None:
        return None, None
    if template.chat:
        return None, "the turns of a chat are written where it is scored, by the workers"
    try:
        return tokenizer_of(checkpoint, roots=roots), None
    except CheckpointError as error:
        return None, str(error)
