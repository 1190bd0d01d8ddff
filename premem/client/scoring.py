"""A run that is being scored, as a handle: `client.score(…)` returns one, and it knows how to wait."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from premem.client.checkpoint_order import in_order_of_steps, unique_names
from premem.client.routes.exports import Curated
from premem.client.transport import Async, Steps, Sync, asked
from premem.client.upload import Rows
from premem.errors import InputError
from premem.output.progress import job_progress
from premem.wire.curation import Choice, Group
from premem.wire.datasets import Dataset
from premem.wire.examples import ExamplePage
from premem.wire.jobs import Checkpoint, Job, JobRequest
from premem.wire.reports import JobReport

if TYPE_CHECKING:
    from premem.client.client import AsyncClient, Client, Routes

Data = Rows | Dataset
"""What is uploaded, or a data set that was: as the service told it, or by its id."""
CheckpointLike = Checkpoint | str | os.PathLike[str]


class ScoringRoutes:
    """What can be asked about one job; Scoring and AsyncScoring carry it out."""

    def __init__(self, client: Client | AsyncClient, job: Job) -> None:
        self.job = job
        """As it was last heard of."""
        self._routes: Routes = client
        self._http: Any = client._http

    @property
    def id(self) -> str:
        return self.job.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}: {self.job.state}>"

    @asked
    def wait(self, *, progress: bool = False, timeout: float | None = None) -> Steps[Job]:
        """The job once it has ended: completed, failed or cancelled. With `progress` a bar on stderr shows how far it is.

        Raises TimeoutError after `timeout` seconds; the job goes on.
        """
        from premem.client.client import Routes

        if not progress:
            self.job = yield from Routes.wait.steps(self._routes, self.id, timeout=timeout)
            return self.job
        with job_progress("scoring") as seen:
            self.job = yield from Routes.wait.steps(self._routes, self.id, timeout=timeout, on_progress=seen)
        return self.job

    @asked
    def report(self) -> Steps[JobReport]:
        """Per checkpoint. Raises Conflict until the job is completed, as everything that follows."""
        from premem.client.client import Routes

        return (yield from Routes.report.steps(self._routes, self.id))

    @asked
    def examples(self, *, limit: int | None = None) -> Steps[ExamplePage]:
        """The lowest pre-memorization accuracies first; `to_polars()` and `to_pandas()` make a frame of them."""
        from premem.client.client import Routes

        return (yield from Routes.examples.steps(self._routes, self.id, limit=limit))

    @asked
    def curated(self, *, group: Group = "chosen", **choice: Unpack[Choice]) -> Steps[Curated]:
        """The uploaded rows that a policy chooses, for `to_polars()` and `to_pandas()`."""
        from premem.client.client import Routes

        return (yield from Routes.curated_table.steps(self._routes, self.id, group=group, **choice))


class Scoring(ScoringRoutes, Sync):
    """Of a Client."""


class AsyncScoring(ScoringRoutes, Async):
    """Of an AsyncClient: its methods are awaited."""


def posted(
    routes: Routes,
    data: Data,
    checkpoints: Sequence[CheckpointLike],
    *,
    test: Data | None,
    upload: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> Steps[Job]:
    """Upload what is not uploaded yet, and post the job."""
    from premem.client.client import Routes

    request = _request(checkpoints, settings)  # what is wrong with it is said before anything is sent
    dataset = yield from _known(routes, data, upload)
    known = {"dataset": dataset if isinstance(dataset, str) else dataset.id}
    if test is not None:
        settled = graded_alike(dataset) if isinstance(dataset, Dataset) and not upload.get("grader") else {}
        twins = yield from _known(routes, test, {**upload, **settled})
        known["test_dataset"] = twins if isinstance(twins, str) else twins.id
    return (yield from Routes.create_job.steps(routes, request.model_copy(update=known)))


def graded_alike(dataset: Dataset) -> dict[str, Any]:
    """For the upload of a test set: the grader that the examples have, which was chosen by them or named with them."""
    return {"grader": dataset.grader.name, "grader_options": dataset.grader.options}


def _known(routes: Routes, data: Data, upload: Mapping[str, Any]) -> Steps[Dataset | str]:
    from premem.client.client import Routes

    if isinstance(data, Dataset):
        return data
    if isinstance(data, str) and data.startswith("ds_") and not os.path.exists(data):
        return data
    return (yield from Routes.upload.steps(routes, data, **upload))


def _request(checkpoints: Sequence[CheckpointLike], settings: Mapping[str, Any]) -> JobRequest:
    """Raises InputError, naming the setting."""
    from pydantic import ValidationError

    if isinstance(checkpoints, str | os.PathLike | Checkpoint):
        raise InputError("checkpoints: give a list of them, in the order in which they were saved")
    plain = all(not isinstance(one, Checkpoint) for one in checkpoints)
    paths = [one.path if isinstance(one, Checkpoint) else os.fspath(one) for one in checkpoints]
    if plain:
        paths = in_order_of_steps(paths)
        named = [Checkpoint(path=_here(path), name=name) for path, name in zip(paths, unique_names(paths), strict=True)]
    else:
        named = [one if isinstance(one, Checkpoint) else Checkpoint(path=_here(os.fspath(one))) for one in checkpoints]
    try:
        return JobRequest.model_validate({"dataset": "not uploaded yet", **settings, "checkpoints": named})
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'the job'}: {fault['msg']}" for fault in error.errors()]
        raise InputError("; ".join(faults)) from None


def _here(path: str) -> str:
    """Workers stand elsewhere: a folder of this machine by its whole path."""
    return os.path.abspath(path) if os.path.isdir(path) else path
