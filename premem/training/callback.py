"""A Trainer callback that has the checkpoints of a run scored while it trains.

    trainer = Trainer(..., callbacks=[PreMemorization("train.jsonl")])

It works with Trainer of transformers and with the trainers of TRL that inherit from it, such as SFTTrainer.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, cast

from pydantic import ValidationError
from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from premem.client.checkpoint_order import in_order_of_steps
from premem.client.client import Client
from premem.client.upload import Rows
from premem.errors import InputError, NotFound, ServiceError
from premem.files import whole_file
from premem.training.agreement import Look, agreed
from premem.training.following import Following, Saved
from premem.training.holding import copy_whole, held, nothing
from premem.training.remarks import at_the_beginning, expected_before, of_saved
from premem.wire.datasets import Columns
from premem.wire.jobs import ENDED, Checkpoint, Job, JobRequest, Sampling, Template

NOTE = "premem.json"
"""Beside the checkpoints: which job follows this run, so that a resumed run goes on with it."""

log = logging.getLogger(__name__)


class PreMemorization(TrainerCallback):  # type: ignore[misc]  # transformers has no types that mypy is given
    """Scores every checkpoint that a run saves, as a job of a premem service, while the run goes on.

    Training never stops and never waits: a thread talks to the service. If the service is away, the thread warns once and
    keeps trying as long as the process lives. Only at the end does training wait, at most `close_seconds`, and only if the
    service responds. In a run with several processes, only the first one talks to the service.

    The scores appear in the Trainer's log under `premem/…` at its next log, and so wherever that log goes.

    If `save_total_limit` would delete checkpoints before they are scored, the callback keeps them in premem-held/ in the
    output folder, as hard links (or copies, if the file system has no links), until they are scored.

    How prompt and target are written is taken from the rows that the Trainer trains on: the paper's texts, a chat with or
    without a system message, or whatever else stands around question and trace. A given `template` is compared with them.
    A line in the training log says what differs, and nothing is scored where no template gives what is trained on.

    Args:
        dataset: What the run trains on: a path or rows to upload, or the id of an uploaded data set.
        job: Instead of a data set: the id of an open job to add the checkpoints to.
        service: Address of the service. Absent: PREMEM_SERVICE of the environment, or http://127.0.0.1:8321.
        api_key: Key for the service. Absent: PREMEM_API_KEY of the environment.
        grader: Name of the grader, for the upload.
        columns: Names of the columns, for the upload.
        max_ungradable: Largest share of rows whose own reference may be graded as not right, for the upload.
        hold: Whether to keep checkpoints that `save_total_limit` would delete.
        copy_to: A folder that workers read instead of the output folder. Every checkpoint is copied there and stays.
        look_seconds: Seconds between two looks for new scores.
        close_seconds: Longest wait at the end of training.
        settings: Fields of JobRequest, such as sampling, template, memorized_below, calibration, test_dataset, name.

    Raises:
        InputError: No job takes these settings.
    """

    def __init__(
        self,
        dataset: Rows | None = None,
        *,
        job: str | None = None,
        service: str | None = None,
        api_key: str | None = None,
        grader: str | None = None,
        columns: Columns | None = None,
        max_ungradable: float | None = None,
        hold: bool = True,
        copy_to: str | os.PathLike[str] | None = None,
        look_seconds: float = 15.0,
        close_seconds: float = 10.0,
        **settings: Any,
    ) -> None:
        if (dataset is None) == (job is None):
            raise InputError("give the data set that the run trains on, or the id of an open job")
        if job is not None and settings:
            raise InputError(f"job {job} has its settings already: {', '.join(settings)} cannot be given beside it")
        try:
            self._checked = JobRequest(dataset="ds_checked", open=True, **settings)
        except ValidationError as error:
            raise InputError(f"no job takes these settings: {error}") from None
        Client(service, api_key).close()  # what is wrong with either is said now
        self.following: Following | None = None
        """None before training begins, and in every process but the first."""
        self._dataset = dataset
        self._job = job
        self._connect = lambda: Client(service, api_key)
        self._upload = {"grader": grader, "columns": columns, "max_ungradable": max_ungradable}
        self._hold = hold
        self._copy_to = None if copy_to is None else Path(copy_to).resolve()
        self._look_seconds = look_seconds
        self._close_seconds = close_seconds
        self._settings = settings
        self._said: set[str] = set()

    def finish(self, seconds: float | None = None) -> bool:
        """Wait until the service knows everything, however long it is away. Returns whether it does."""
        return self.following is None or self.following.finish(seconds)

    # What the Trainer calls

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **run: Any) -> None:
        if not state.is_world_process_zero:
            return
        _before_reporters(self, sys._getframe(1))
        self._said = set()
        for remark in at_the_beginning(args, run):
            self._warn(remark)
        folder = Path(args.output_dir).resolve()
        resumed = state.global_step > 0 and self._job is None
        noted = _noted(folder) if resumed else None
        look = _look(args, run)
        about = {"name": (args.run_name or folder.name)[:200], "learning_rate": args.learning_rate or None}

        def begin(client: Client, key: str) -> Job:
            if not _has_worker(client):
                self._warn(
                    f"no worker has asked {client.base_url} for work lately: checkpoints wait until one does (premem worker "
                    f"--service {client.base_url} --checkpoint-root {self._copy_to or folder})"
                )
            job = self._found(client, self._job or noted)
            if job is not None:
                self._agree(look, client, job.dataset, job.template, job.sampling)
            else:
                job = self._made(client, key, about, look)
                if resumed:
                    self._go_on(client, noted, folder, args, state)
            _note(folder, job.id)
            log.info("premem follows this run as %s at %s", job.id, client.base_url)
            return job

        self.following = Following(self._connect, begin, warn=self._warn, look_seconds=self._look_seconds)
        self.following.start()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.following is None:
            return
        path = Path(args.output_dir).resolve() / f"checkpoint-{state.global_step}"
        for remark in of_saved(path):
            self._warn(remark)
        try:
            self.following.append(self._saved(path, may_go=bool(args.save_total_limit)))
        except OSError as error:
            self._warn(f"{path.name} is left out, and training goes on: {error}")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        line = self.following.news() if self.following and logs is not None else None
        if line is None or logs is None:
            return
        told = {
            "premem/pre_memorization_accuracy": line.pre_memorization_accuracy,
            "premem/train_accuracy": line.train_accuracy,
            "premem/memorized": line.memorized,
            "premem/test_accuracy": line.test_accuracy,
            "premem/copied": line.copied,
            "premem/step": _step(line.checkpoint),
        }
        scores = {name: value for name, value in told.items() if value is not None}
        logs.update(scores)
        if state.log_history:
            state.log_history[-1].update(scores)  # the Trainer made this entry before it told its callbacks

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.following is None:
            return
        self.following.close()
        if not self.following.finish(self._close_seconds, only_if_there=True) and (left := self.following.waiting):
            self._warn(
                f"the service has not been told of {len(left)} checkpoints ({left[0].name} first): it will be, as long "
                "as this process lives; `callback.finish()` waits for it"
            )

    # Data set and job

    def _found(self, client: Client, job: str | None) -> Job | None:
        """The job that goes on; None where a resumed run's has ended or is not there."""
        if job is None:
            return None
        try:
            found = client.job(job)
        except NotFound:
            if self._job is not None:
                raise
            return None
        if found.open and found.state not in ENDED:
            return found
        if self._job is not None:
            raise InputError(f"job {job} is {found.state} and takes no more checkpoints")
        return None

    def _made(self, client: Client, key: str, about: Mapping[str, Any], look: Look) -> Job:
        dataset = self._dataset
        if not (isinstance(dataset, str) and dataset.startswith("ds_") and not Path(dataset).exists()):
            dataset = client.upload(cast(Rows, dataset), **self._upload).id  # type: ignore[arg-type]
        given = self._checked.template if "template" in self._settings else None
        template, sampling = self._agree(look, client, dataset, given, self._checked.sampling)
        settings = {**about, **self._settings, "template": template, "sampling": sampling}
        return client.create_job(JobRequest(dataset=dataset, open=True, **settings), idempotency_key=key)

    def _agree(
        self, look: Look, client: Client, dataset: str, given: Template | None, sampling: Sampling
    ) -> tuple[Template, Sampling]:
        """In which form the run is asked; what it is not asked in is said."""
        found = agreed(look, client, dataset, given=given, sampling=sampling)
        for remark in found.remarks:
            self._warn(remark)
        stop = {} if found.stop is None else {"stop": found.stop}
        return found.template, sampling.model_copy(update=stop)

    def _go_on(
        self, client: Client, noted: str | None, folder: Path, args: TrainingArguments, state: TrainerState
    ) -> None:
        """Put what an earlier job had, or what lies in the folder, in front of what this run will save."""
        steps = {_step(path.name): path for path in folder.glob("checkpoint-*") if path.is_dir()}
        there = [str(path) for step, path in steps.items() if step is not None and step <= state.global_step]
        before = [self._saved(Path(path), may_go=bool(args.save_total_limit)) for path in in_order_of_steps(there)]
        if self.following is not None:
            self.following.put_in_front(before)
        try:
            wanted = [one.name for one in client.job(noted).checkpoints] if noted else expected_before(args, state)
        except NotFound:
            wanted = expected_before(args, state)
        found = {saved.checkpoint.name for saved in before}
        gone = [name for name in wanted if name not in found and (_step(name) or 0) <= state.global_step]
        if gone or not before:
            self._warn(
                f"this run goes on from step {state.global_step} as a new job, which lacks {', '.join(gone) or 'all before'}: "
                "what was solved only there does not count in its scores"
            )

    def _warn(self, message: str) -> None:
        """Into the training log, once each."""
        if message not in self._said:
            self._said.add(message)
            log.warning("premem: %s", message)

    # Checkpoints

    def _saved(self, path: Path, *, may_go: bool) -> Saved:
        if self._copy_to is not None:
            target = self._copy_to / path.parent.name / path.name
            source, release = held(path) if may_go else (path, nothing)

            def prepare() -> None:
                copy_whole(source, target)
                release()

            return Saved(Checkpoint(path=str(target), name=path.name), prepare=prepare, release=nothing)
        if may_go and self._hold:
            second, release = held(path)
            return Saved(Checkpoint(path=str(second), name=path.name), prepare=nothing, release=release)
        return Saved(Checkpoint(path=str(path), name=path.name), prepare=nothing, release=nothing)


def _step(checkpoint: str) -> int | None:
    number = checkpoint.rpartition("-")[2]
    return int(number) if number.isdecimal() else None


def _has_worker(client: Client) -> bool:
    """Also where it is not known: a key may be good for jobs and not for the list of workers."""
    try:
        return next(iter(client.workers()), None) is not None
    except ServiceError as error:
        if error.status in (401, 403, 404):
            return True
        raise


def _look(args: TrainingArguments, run: Mapping[str, Any]) -> Look:
    config = getattr(run.get("model"), "generation_config", None)
    ends = getattr(config, "eos_token_id", None)
    packed = bool(getattr(args, "packing", False)) and getattr(args, "packing_strategy", "") == "wrapped"
    return Look.at(
        run.get("train_dataloader"),
        run.get("processing_class"),
        ends=[ends] if isinstance(ends, int) else ends or [],
        packed=packed,
    )


# The job of a run that is resumed


def _noted(folder: Path) -> str | None:
    try:
        job = json.loads((folder / NOTE).read_text()).get("job")
    except (OSError, ValueError, AttributeError):
        return None
    return job if isinstance(job, str) else None


def _note(folder: Path, job: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / NOTE) as out:
        out.write(json.dumps({"job": job}).encode())


# Where the Trainer's log goes


def _before_reporters(callback: PreMemorization, caller: FrameType | None) -> None:
    """Move the callback to the front: the Trainer puts W&B, MLflow and the like there, and what is added to a log
    after them does not reach them. A callback is not told of the handler that calls it; its frame knows.
    """
    handler = caller.f_locals.get("self") if caller else None
    if isinstance(handler, CallbackHandler):
        handler.callbacks = [callback, *(other for other in handler.callbacks if other is not callback)]
