"""A job that `client.score(…)` started, as an object that waits for it and gets its results."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from premem.client.checkpoint_order import in_order_of_steps, unique_names
from premem.client.routes.all import Routes
from premem.client.routes.datasets import DatasetRoutes
from premem.client.routes.examples import ExampleRoutes
from premem.client.routes.exports import Curated, ExportRoutes
from premem.client.routes.jobs import JobRoutes
from premem.client.transport import Async, Steps, Sync, endpoint
from premem.client.upload import Rows
from premem.errors import InputError
from premem.output.progress import job_progress
from premem.wire.curation import Choice, Group
from premem.wire.datasets import Dataset
from premem.wire.examples import ExamplePage
from premem.wire.jobs import Checkpoint, Job, JobRequest
from premem.wire.reports import JobReport

Data = Rows | Dataset
"""Rows to upload, or an uploaded data set or its id."""
CheckpointLike = Checkpoint | str | os.PathLike[str]


class ScoringRoutes:
    """Waits for one job and gets its results; Scoring and AsyncScoring are what people use."""

    def __init__(self, routes: Routes, http: Any, job: Job) -> None:
        self.job = job
        """As the service last described it."""
        self._routes = routes
        self._http = http

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}: {self.job.state}>"

    @endpoint
    def wait(self, *, progress: bool = False, timeout: float | None = None) -> Steps[Job]:
        """Wait until the job has ended: completed, failed or cancelled.

        Args:
            progress: True: a bar on stderr shows how far it is.
            timeout: Seconds to wait at most. Absent: without end.

        Returns:
            The job as it ended.

        Raises:
            TimeoutError: It has not ended within `timeout` seconds; it goes on.
        """
        if not progress:
            self.job = yield from JobRoutes.wait.steps(self._routes, self.id, timeout=timeout)
            return self.job
        with job_progress("scoring") as show:
            self.job = yield from JobRoutes.wait.steps(self._routes, self.id, timeout=timeout, on_progress=show)
        return self.job

    @endpoint
    def report(self) -> Steps[JobReport]:
        """Get the report: per checkpoint the accuracies, the share memorized, and the forecast where there is one.

        Raises:
            Conflict: The job is not completed.
        """
        return (yield from ExampleRoutes.report.steps(self._routes, self.id))

    @endpoint
    def examples(self, *, limit: int | None = None) -> Steps[ExamplePage]:
        """Get the examples with the lowest pre-memorization accuracies.

        Args:
            limit: How many. Absent: the service's default.

        Returns:
            The page; `to_polars()` and `to_pandas()` make a data frame of it.

        Raises:
            Conflict: The job is not completed.
        """
        return (yield from ExampleRoutes.examples.steps(self._routes, self.id, limit=limit))

    @endpoint
    def curated(self, *, group: Group = "chosen", **choice: Unpack[Choice]) -> Steps[Curated]:
        """Get the uploaded rows that a policy chooses, or their random control.

        Args:
            group: `chosen` or `control`.
            choice: The policy and its bounds; `premem.wire.curation.Choice` describes each.

        Returns:
            The rows; `to_polars()` and `to_pandas()` make a data frame of them.

        Raises:
            Conflict: The job is not completed.
        """
        return (yield from ExportRoutes.curated_table.steps(self._routes, self.id, group=group, **choice))


class Scoring(ScoringRoutes, Sync):
    """A job that Client.score started."""


class AsyncScoring(ScoringRoutes, Async):
    """A job that AsyncClient.score started; its methods are coroutines."""


def start_scoring(
    routes: Routes,
    data: Data,
    checkpoints: Sequence[CheckpointLike],
    *,
    test: Data | None,
    upload: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> Steps[Job]:
    """Upload what is not uploaded yet, and create the job."""
    request = _request(checkpoints, settings)  # wrong settings are an error before anything is sent
    dataset = yield from _dataset(routes, data, upload)
    ids = {"dataset": dataset if isinstance(dataset, str) else dataset.id}
    if test is not None:
        settled = graded_alike(dataset) if isinstance(dataset, Dataset) and not upload.get("grader") else {}
        twins = yield from _dataset(routes, test, {**upload, **settled})
        ids["test_dataset"] = twins if isinstance(twins, str) else twins.id
    return (yield from JobRoutes.create_job.steps(routes, request.model_copy(update=ids)))


def graded_alike(dataset: Dataset) -> dict[str, Any]:
    """For the upload of a test set: the grader that the examples have, which was chosen by them or named with them."""
    return {"grader": dataset.grader.name, "grader_options": dataset.grader.options}


def _dataset(routes: Routes, data: Data, upload: Mapping[str, Any]) -> Steps[Dataset | str]:
    """The data set, uploaded now where it has to be; an id where it was given as one."""
    if isinstance(data, Dataset):
        return data
    if isinstance(data, str) and data.startswith("ds_") and not os.path.exists(data):
        return data
    return (yield from DatasetRoutes.upload.steps(routes, data, **upload))


def _request(checkpoints: Sequence[CheckpointLike], settings: Mapping[str, Any]) -> JobRequest:
    """Raises InputError, naming the setting."""
    from pydantic import ValidationError

    if isinstance(checkpoints, str | os.PathLike | Checkpoint):
        raise InputError("checkpoints: give a list of them, in the order in which they were saved")
    plain = all(not isinstance(one, Checkpoint) for one in checkpoints)
    paths = [one.path if isinstance(one, Checkpoint) else os.fspath(one) for one in checkpoints]
    if plain:
        paths = in_order_of_steps(paths)
        ordered = [
            Checkpoint(path=_absolute(path), name=name) for path, name in zip(paths, unique_names(paths), strict=True)
        ]
    else:
        ordered = [
            one if isinstance(one, Checkpoint) else Checkpoint(path=_absolute(os.fspath(one))) for one in checkpoints
        ]
    try:
        return JobRequest.model_validate({"dataset": "not uploaded yet", **settings, "checkpoints": ordered})
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'the job'}: {fault['msg']}" for fault in error.errors()]
        raise InputError("; ".join(faults)) from None


def _absolute(path: str) -> str:
    """A folder of this machine by its absolute path: workers run in another directory."""
    return os.path.abspath(path) if os.path.isdir(path) else path
