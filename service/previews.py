"""The first rows of a data set as prompt and target: what a template makes of them, before anything is scored."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import ValidationError

from premem.wire import Template
from premem.wire_previews import Preview, PreviewRow
from service.datasets import get_dataset, read_rows
from service.dependencies import DatabaseGiven, StoreGiven
from service.problems import FieldError, described

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
Text = Annotated[str | None, Query(max_length=10_000)]


@router.get("/{dataset}/preview", responses=described(401, 404, 422, 500, 503))
def get_preview(
    dataset: str,
    database: DatabaseGiven,
    store: StoreGiven,
    rows: Annotated[int, Query(ge=1, le=100, description="At most so many.")] = 3,
    prompt: Text = None,
    target: Text = None,
    chat: bool = False,
    system: Text = None,
) -> Preview:
    """The first rows under a template (absent: the paper's), and the columns that they were taken from.

    Of a chat what user and assistant say: the turns around that are written by each checkpoint's own tokenizer.
    """
    about = get_dataset(dataset, database)
    asked = {"prompt": prompt, "target": target, "chat": chat, "system": system}
    try:
        template = Template.model_validate({name: value for name, value in asked.items() if value is not None})
    except ValidationError as error:
        fault = error.errors()[0]
        named = fault["loc"] or ("system",)  # the only one that another one forbids
        raise FieldError(str(named[0]), fault["msg"].removeprefix("Value error, ")) from error
    frame = read_rows(database, store, dataset, 0, min(rows, about.rows))
    shown = [
        PreviewRow(row=row, id=id_, prompt=template.render_prompt(question), target=template.render_target(trace))
        for row, id_, question, trace in frame.select("row", "id", "question", "trace").iter_rows()
    ]
    return Preview(dataset=about, template=template, rows=shown)
