"""Data sets: upload them, look at them, delete them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from premem.client.replies import decode_rows
from premem.client.routes.shared import RouteGroup, path_of
from premem.client.transport import Listing, Params, Steps, endpoint, paginated
from premem.client.upload import Rows, Upload
from premem.errors import RowsError
from premem.wire.datasets import Columns, Dataset
from premem.wire.jobs import Template
from premem.wire.previews import Preview

UPLOAD_SECONDS = 3600.0
"""The service grades every reference before it answers."""


class DatasetRoutes(RouteGroup):
    """Part of Client and AsyncClient."""

    @endpoint
    def upload(
        self,
        rows: Rows,
        *,
        name: str | None = None,
        grader: str | None = None,
        grader_options: Mapping[str, Any] | None = None,
        columns: Columns | None = None,
        max_ungradable: float | None = None,
        repair_latex: bool | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Steps[Dataset]:
        """Upload rows as a data set. The same rows are the same data set, however often they are uploaded.

        Args:
            rows: A path or an open binary file (JSONL, a JSON array, Parquet, Arrow or CSV; plain, gzip or zstd), dicts,
                `hf://org/name?split=train` or `s3://bucket/key.jsonl`. The last two are read here, with this machine's
                credentials. What can be read only once (a pipe, a generator) is sent in one attempt.
            name: Shown to people. Absent: the file's name.
            grader: Name of the grader, which also grades every row's own reference. Absent: the references choose it, and
                `grader_reason` of the data set says why.
            grader_options: Options of the grader.
            columns: Which column holds the question, the trace and the final answer. Absent: the usual names.
            max_ungradable: Share of the rows, from 0 to 1, whose own reference may fail to grade as right.
            repair_latex: True: put back the backslashes of LaTeX that JSON took for escapes; False: take such rows as they
                are.
                Absent: they are refused.
            progress: Called with the number of bytes sent so far.

        Returns:
            The data set, with its id.

        Raises:
            RowsError: Rows are malformed; `lines` names them by number, and nothing was kept.
            InputError: There is nothing to send, or the grader or a column does not exist.
        """
        upload = Upload(rows, progress=progress)
        params: Params = {
            "name": upload.name if name is None else name,
            "grader": grader,
            "grader_options": json.dumps(dict(grader_options)) if grader_options else None,
            "max_ungradable": max_ungradable,
            "repair_latex": None if repair_latex is None else str(repair_latex).lower(),
            **(columns.model_dump(exclude_none=True) if columns else {}),
        }
        timeout = httpx.Timeout(UPLOAD_SECONDS, connect=10.0)
        try:
            return (
                yield from self._request(Dataset, "POST", "/v1/datasets", params=params, upload=upload, timeout=timeout)
            )
        except RowsError as error:
            file = f"{upload.name}: " if upload.name else ""
            raise RowsError(f"{file}{error}", error.lines, total=error.total) from error

    @paginated
    def datasets(self) -> Listing[Dataset]:
        """List all data sets, newest first; pages are requested as they are read."""
        return self._pages("/v1/datasets", Dataset)

    @endpoint
    def dataset(self, dataset: str) -> Steps[Dataset]:
        """Get one data set.

        Args:
            dataset: Its id.

        Raises:
            NotFound: There is no such data set.
        """
        return (yield from self._request(Dataset, "GET", path_of("datasets", dataset)))

    @endpoint
    def rows(self, dataset: str, *, start: int = 0, stop: int | None = None) -> Steps[list[dict[str, Any]]]:
        """Get rows of a data set as they were uploaded. Needs polars (`pip install 'premem[frames]'`).

        Args:
            dataset: Its id.
            start: First row, counted from 0.
            stop: The row after the last one, at most 100,000 after `start`. Absent: the end of the data set.

        Returns:
            One dict per row, with all of its columns.

        Raises:
            NotFound: There is no such data set.
            InputError: The range lies outside it, or is too long.
        """
        params: Params = {"start": start, "stop": stop}
        response = yield from self._service.request("GET", path_of("datasets", dataset, "rows"), params=params)
        return decode_rows(response.content)

    @endpoint
    def preview(
        self, dataset: str, *, rows: int = 3, template: Template | None = None, checkpoint: str | None = None
    ) -> Steps[Preview]:
        """Show the first rows of a data set as the model will see them: prompt and target.

        Args:
            dataset: Its id.
            rows: How many rows.
            template: How a row becomes prompt and target. Absent: the paper's template.
            checkpoint: Folder that the service may read; the rows are then also shown as its tokenizer's tokens.

        Raises:
            NotFound: There is no such data set.
        """
        fields = {} if template is None else template.model_dump()
        params = {"rows": rows, "checkpoint": checkpoint, **fields}
        return (yield from self._request(Preview, "GET", path_of("datasets", dataset, "preview"), params=params))

    @endpoint
    def delete_dataset(self, dataset: str) -> Steps[None]:
        """Delete a data set and its rows.

        Args:
            dataset: Its id.

        Raises:
            NotFound: There is no such data set.
            Conflict: A job uses it.
        """
        yield from self._service.request("DELETE", path_of("datasets", dataset))
