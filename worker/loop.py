"""Lease a task, work it, hand the result in, and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar, cast

import structlog
from structlog.typing import FilteringBoundLogger

from premem.errors import (
    CheckpointError,
    Conflict,
    EngineError,
    GraderError,
    InputError,
    Interrupted,
    NotFound,
    PrememError,
    ServiceError,
)
from premem.records import Example
from premem.wire import GraderChoice
from premem.wire_tasks import FailureReport, LeasedTask, LeaseRequest
from worker.connection import Connection, NothingToDo, jittered
from worker.embedding import run_embedding
from worker.ending import Ending
from worker.engines import Engine
from worker.heartbeat import Heartbeat
from worker.parts import Graders, Located, Parts
from worker.passes import run_pass
from worker.regrading import regrade
from worker.settings import Settings

AnyEngine = TypeVar("AnyEngine", bound=Engine)

log = structlog.get_logger(__name__)


class Worker:
    """One worker. It keeps no state but the weights in memory, and writes nothing to disk."""

    def __init__(self, settings: Settings, parts: Parts, *, ending: Ending) -> None:
        self._settings = settings
        self._parts = parts
        self._ending = ending
        self._connection = self._connect()
        self._beats = self._connect()
        self._engine: Engine | None = None
        self._made_by: object = None
        self._loaded: str | None = None
        """As its task named it."""
        self._graders: tuple[GraderChoice, Graders] | None = None
        self._current: LeasedTask | None = None
        self._welcome = False
        self._failures_in_a_row = 0
        self._idle_since = time.monotonic()

    def run(self) -> int:
        """Work until asked to end, or as long as the settings say. Returns the exit status.

        Raises ServiceError where the service turns this worker away: its key is refused, or it is no premem service.
        """
        log.info(
            "worker started", worker=self._settings.name, service=self._settings.service, engine=self._parts.engine_name
        )
        while not self._ending.asked():
            try:
                leased = self._connection.lease(self._lease_request(), stopped=self._is_over)
            except Interrupted:
                break
            except ServiceError as error:
                if not self._welcome and not isinstance(error, Conflict) and (error.status or 0) < 500:
                    raise
                log.warning("the service hands out no task", reason=str(error))
                leased = NothingToDo(ask_again_seconds=15.0)
            else:
                self._welcome = True
            if isinstance(leased, NothingToDo):
                if self._is_over():
                    break
                self._ending.wait(min(jittered(leased.ask_again_seconds), self._idle_seconds_left()))
                continue
            self._work(leased, leased_at=time.monotonic())
            self._idle_since = time.monotonic()
            if self._settings.once:
                break
        log.info("worker ended", worker=self._settings.name)
        return 0

    def close(self) -> None:
        """End every process and give back memory."""
        self._close_engine()
        self._close_graders()
        self._connection.close()
        self._beats.close()

    def give_back_at_once(self) -> None:
        """From another thread, when this process is about to be ended: give back whatever task is in hand."""
        task = self._current
        if task is not None:
            self._give_back(task, self._beats)

    def _connect(self) -> Connection:
        key = self._settings.api_key
        return Connection(
            self._settings.service,
            api_key=key.get_secret_value() if key else None,
            request_seconds=self._settings.request_seconds,
        )

    def _lease_request(self) -> LeaseRequest:
        return LeaseRequest(
            worker=self._settings.name,
            engine=self._parts.engine_name,
            loaded_checkpoint=self._loaded,
        )

    def _idle_seconds_left(self) -> float:
        if self._settings.exit_when_idle is None:
            return float("inf")
        return self._idle_since + self._settings.exit_when_idle - time.monotonic()

    def _is_over(self) -> bool:
        return self._ending.asked() or self._idle_seconds_left() <= 0

    def _work(self, task: LeasedTask, *, leased_at: float) -> None:
        """One task from its lease to whatever becomes of it. Raises nothing."""
        told = log.bind(task=task.id, attempt=task.attempt, checkpoint=task.checkpoint.name, kind=task.kind)
        told.info("task leased", start=task.start, stop=task.stop)
        self._current = task
        with Heartbeat(self._beats, task, leased_at=leased_at) as lease:
            try:
                content = self._score(task, stopped=lambda: lease.stopped() or self._ending.asked())
                self._connection.result(task.id, task.attempt, content, stopped=lease.stopped)
            except Interrupted:
                if lease.lost is None:
                    self._give_back(task, self._connection)
                    told.info("task given back")
                else:
                    told.info("task dropped", reason=lease.lost)
            except Conflict as error:
                told.info("task dropped", reason=str(error))
            except Exception as error:  # told to the service, or lost with the lease
                self._fail(task, error, lease, told)
            else:
                self._failures_in_a_row = 0
                told.info("task done", seconds=round(time.monotonic() - leased_at, 1))
        self._current = None
        if self._failures_in_a_row:
            # Another worker may have what this one lacks.
            self._ending.wait(jittered(min(30.0, 0.5 * 2**self._failures_in_a_row)))

    def _score(self, task: LeasedTask, *, stopped: Callable[[], bool]) -> bytes:
        column = task.perturbation.question_column if task.perturbation else None
        examples = self._connection.rows(
            task.dataset, start=task.start, stop=task.stop, stopped=stopped, question_column=column
        )
        if task.kind == "embed":
            return self._embed(task, examples, stopped=stopped)
        graders = self._graders_for(task.grader)
        if task.regrade:
            source = self._connection.source(task.id, stopped=stopped)
            return regrade(task, examples, source, grading=graders, stopped=stopped)
        located = self._locate(task)
        if stopped():
            raise Interrupted("stopped before the engine was started")
        engine = self._load(task, located, self._parts.make_engine)
        return run_pass(
            task,
            examples,
            engine,
            grading=graders,
            tokenizer_fingerprint=located.tokenizer,
            model=located.model,
            stopped=stopped,
        )

    def _embed(self, task: LeasedTask, examples: list[Example], *, stopped: Callable[[], bool]) -> bytes:
        located = self._locate(task)
        if stopped():
            raise Interrupted("stopped before the engine was started")
        engine = self._load(task, located, self._parts.make_embedder)
        return run_embedding(
            task, examples, engine, tokenizer_fingerprint=located.tokenizer, model=located.model, stopped=stopped
        )

    def _locate(self, task: LeasedTask) -> Located:
        path = task.checkpoint.path
        located = self._parts.locate(path)
        if task.tokenizer is not None and located.tokenizer != task.tokenizer:
            raise CheckpointError(
                f"checkpoint {task.checkpoint.name!r} ({path}) has another tokenizer than the checkpoints before it: "
                "the checkpoints of one job must come from one run"
            )
        return located

    def _load(self, task: LeasedTask, located: Located, making: Callable[[], AnyEngine] | None) -> AnyEngine:
        """The engine of that making with the task's checkpoint. Another one makes room first: a GPU holds one."""
        if making is None:
            raise EngineError("this worker has no engine and can only grade anew what others sampled")
        if self._engine is not None and self._made_by is not making:
            self._close_engine()
        if self._engine is None:
            self._engine, self._made_by = making(), making
        engine = cast(AnyEngine, self._engine)
        self._loaded = None  # until it is, again
        engine.load(located.folder, dtype=task.dtype)
        self._loaded = task.checkpoint.path
        return engine

    def _graders_for(self, choice: GraderChoice) -> Graders:
        if self._graders is not None and self._graders[0] != choice:
            self._close_graders()
        if self._graders is None:
            self._graders = (choice, self._parts.make_graders(choice))
        return self._graders[1]

    def _fail(self, task: LeasedTask, error: Exception, lease: Heartbeat, told: FilteringBoundLogger) -> None:
        """Report the failure, and start afresh where nobody can say what is still whole."""
        report = failure_report(error, attempt=task.attempt)
        if not report.permanent:
            self._failures_in_a_row += 1
        if not isinstance(error, InputError | ServiceError):
            self._close_engine()
            self._close_graders()
        if isinstance(error, PrememError):
            told.warning(
                "task failed", error=str(error), permanent=report.permanent, checkpoint_fault=report.checkpoint
            )
        else:
            told.exception("task failed")
        try:
            self._connection.failure(task.id, report, stopped=lease.stopped)
        except (Interrupted, ServiceError) as unheard:
            told.warning("the failure could not be reported", reason=str(unheard))

    def _give_back(self, task: LeasedTask, connection: Connection) -> None:
        until = time.monotonic() + 2.0
        try:
            connection.release(task.id, task.attempt, stopped=lambda: time.monotonic() > until)
        except (Interrupted, ServiceError) as error:
            log.warning("the task could not be given back; its lease will run out", task=task.id, reason=str(error))

    def _close_engine(self) -> None:
        engine, self._engine, self._loaded = self._engine, None, None
        if engine is not None:
            try:
                engine.close()
            except Exception:  # the engine is forgotten all the same, and the next task gets a new one
                log.exception("the engine did not close")

    def _close_graders(self) -> None:
        graders, self._graders = self._graders, None
        if graders is not None:
            graders[1].close()


def failure_report(error: Exception, *, attempt: int) -> FailureReport:
    """Whose fault it was.

    What lies in the input stays wrong however often it is tried. Anything else may pass, a grader that is missing too:
    the service knows it, so another worker may have it installed.
    """
    text = str(error) if isinstance(error, PrememError) else f"{type(error).__name__}: {error}"
    text = text.encode("utf-8", "backslashreplace").decode()  # some messages quote what is no Unicode
    return FailureReport(
        attempt=attempt,
        error=text[:10_000] or type(error).__name__,
        permanent=isinstance(error, InputError | NotFound) and not isinstance(error, GraderError),
        checkpoint=isinstance(error, CheckpointError),
    )
