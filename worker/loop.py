"""Lease a task, work it, hand the result in, and again; the next one is leased while the last answers are drawn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from functools import partial
from typing import TypeVar, cast

import structlog

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
from premem.local import ENGINE_HANGS
from premem.results import weights_of
from premem.wire import GraderChoice
from premem.wire_tasks import FailureReport, LeasedTask, LeaseRequest
from worker import fingerprints
from worker.connection import Connection, NothingToDo, jittered
from worker.embedding import run_embedding
from worker.engines import Engine
from worker.holding import Fetched, TaskInHand, TasksInHand
from worker.pace import Pace, Paced
from worker.partials import PartialSaver
from worker.parts import Graders, Located, Parts
from worker.passes import Keeping, Plan, plan, run_pass
from worker.prefetch import Prefetch
from worker.processes import end_now
from worker.regrading import regrade
from worker.settings import Settings
from worker.shutdown import Shutdown
from worker.stream import Stream
from worker.uploads import Uploads
from worker.watchdog import Watch, watched

AnyEngine = TypeVar("AnyEngine", bound=Engine)
Found = TypeVar("Found")

log = structlog.get_logger(__name__)


class Worker:
    """One worker. It keeps no state but the weights in memory, and writes nothing to disk."""

    def __init__(self, settings: Settings, parts: Parts, *, shutdown: Shutdown) -> None:
        self._settings = settings
        self._parts = parts
        self._shutdown = shutdown
        self._connection = self._connect()
        self._beats = self._connect()
        self._in_hand = TasksInHand(self._beats)
        self._uploads = Uploads(self._hand_in)
        self._prefetch = Prefetch(
            lambda abandoned: self._lease(lambda: abandoned() or self._shutdown.requested()),
            self._fetch,
            self._put_back,
        )
        self._ahead_seconds = 1.0
        """Before its end a pass has the next task leased, which others may be waiting for."""
        self._engine: Engine | None = None
        self._made_by: object = None
        self._loaded: str | None = None
        """As its task named it."""
        self._device: str | None = None
        self._graders: tuple[GraderChoice, Graders] | None = None
        self._stream: Stream | None = None
        """Of the pass that samples and scores."""
        self._begun: tuple[TaskInHand, Plan | None] | None = None
        """The task ahead, and what the stream has been asked for it; None: it has to wait for its turn."""
        self._current: TaskInHand | None = None
        self._welcome = False
        self._failures_in_a_row = 0
        self._idle_since = time.monotonic()
        self._ask_again_seconds = 2.0

    def run(self) -> int:
        """Work until asked to end, or as long as the settings say. Returns the exit status.

        Raises ServiceError where the service turns this worker away: its key is refused, or it is no premem service.
        """
        log.info(
            "worker started", worker=self._settings.name, service=self._settings.service, engine=self._parts.engine_name
        )
        try:
            while not self._shutdown.requested():
                answered = self._uploads.answered
                in_hand = self._next()
                if in_hand is None:
                    if not self._wait_for_work(answered):
                        break
                    continue
                self._work(in_hand)
                self._idle_since = time.monotonic()
                if self._settings.once:
                    break
        except Interrupted:
            pass  # while nothing but a task was waited for
        finally:
            self._prefetch.put_back()
            self._uploads.finish()
        log.info("worker ended", worker=self._settings.name)
        return 0

    def close(self) -> None:
        """End every process and give back memory."""
        self._close_engine()
        self._close_graders()
        self._connection.close()
        self._beats.close()

    def give_back_at_once(self) -> None:
        """From another thread, when this process is about to be ended: give back every task in hand."""
        self._in_hand.give_back_all()

    def _connect(self) -> Connection:
        key = self._settings.api_key
        return Connection(
            self._settings.service,
            api_key=key.get_secret_value() if key else None,
            request_seconds=self._settings.request_seconds,
        )

    def _next(self) -> TaskInHand | None:
        """The task that was leased ahead, or another one. None: there is none. Raises Interrupted."""
        in_hand = self._prefetch.take(stopped=self._shutdown.requested)
        if in_hand is not None:
            return in_hand
        try:
            in_hand = self._lease(self._is_over)
        except ServiceError as error:
            if not self._welcome and not isinstance(error, Conflict) and (error.status or 0) < 500:
                raise
            log.warning("the service hands out no task", reason=str(error))
            self._ask_again_seconds = 15.0
            return None
        self._welcome = True
        if in_hand is not None:
            self._fetch(in_hand)
        return in_hand

    def _lease(self, stopped: Callable[[], bool]) -> TaskInHand | None:
        """Raises Interrupted, ServiceError."""
        request = LeaseRequest(
            worker=self._settings.name,
            engine=self._parts.engine_name,
            device=self._device,
            loaded_checkpoint=self._loaded,
        )
        leased = self._connection.lease(request, stopped=stopped)
        if isinstance(leased, NothingToDo):
            self._ask_again_seconds = leased.ask_again_seconds
            return None
        return self._in_hand.take(leased, leased_at=time.monotonic())

    def _wait_for_work(self, answered: int) -> bool:
        """Before the next lease is asked for. False: there is no use in it.

        A result that has been handed in since the last one was asked for, the `answered`-th or a later one, may have
        made tasks.
        """
        pause = jittered(self._ask_again_seconds)
        if self._uploads.pending or self._uploads.answered != answered:
            if self._uploads.answered_since(answered, seconds=pause, stopped=self._shutdown.requested):
                self._idle_since = time.monotonic()
            return True
        if self._is_over():
            return False
        self._shutdown.wait(min(pause, self._idle_seconds_left()))
        return True

    def _idle_seconds_left(self) -> float:
        if self._settings.exit_when_idle is None:
            return float("inf")
        return self._idle_since + self._settings.exit_when_idle - time.monotonic()

    def _is_over(self) -> bool:
        return self._shutdown.requested() or self._idle_seconds_left() <= 0

    def _work(self, in_hand: TaskInHand) -> None:
        """One task until its result is on its way, or whatever else becomes of it. Raises nothing."""
        in_hand.began, self._current = time.monotonic(), in_hand
        try:
            content = self._score(in_hand, stopped=lambda: in_hand.stopped() or self._shutdown.requested())
            self._uploads.put(in_hand, content, stopped=in_hand.stopped)
        except Exception as error:
            if not isinstance(error, InputError | Interrupted | ServiceError):
                # Nobody can say what is still whole.
                self._close_engine()
                self._close_graders()
            self._end_stream()
            self._end_without_result(in_hand, error)
        self._current = None
        if not self._settings.lease_ahead:
            self._uploads.finish()
        if self._failures_in_a_row:
            # Another worker may have what this one lacks.
            self._end_stream()
            self._prefetch.put_back()
            self._shutdown.wait(jittered(min(30.0, 0.5 * 2**self._failures_in_a_row)))

    def _hand_in(self, in_hand: TaskInHand, content: bytes) -> None:
        """From the thread of the uploads. Raises nothing."""
        try:
            self._connection.result(in_hand.task.id, in_hand.task.attempt, content, stopped=in_hand.stopped)
        except Exception as error:
            self._end_without_result(in_hand, error)
        else:
            self._failures_in_a_row = 0
            took = {} if in_hand.effort is None else asdict(in_hand.effort)
            in_hand.log.info("task done", seconds=round(time.monotonic() - (in_hand.began or 0.0), 1), **took)
            self._in_hand.drop(in_hand)

    def _end_without_result(self, in_hand: TaskInHand, error: Exception) -> None:
        """Give the task back, drop it, or tell the service what went wrong."""
        if isinstance(error, Interrupted) and in_hand.lease.lost is None:
            self._put_back(in_hand)
        elif isinstance(error, Interrupted | Conflict):
            in_hand.log.info("task dropped", reason=in_hand.lease.lost or str(error))
        else:
            self._fail(in_hand, error)
        self._in_hand.drop(in_hand)

    def _fetch(self, in_hand: TaskInHand) -> None:
        """What a task needs before it can begin. What goes wrong is raised when its turn has come."""
        in_hand.fetch(lambda task: self._fetched(task, stopped=lambda: in_hand.stopped() or self._shutdown.requested()))

    def _fetched(self, task: LeasedTask, *, stopped: Callable[[], bool]) -> Fetched:
        began = time.monotonic()
        column = task.perturbation.question_column if task.perturbation else None
        examples = self._connection.rows(
            task.dataset, start=task.start, stop=task.stop, stopped=stopped, question_column=column
        )
        source = self._connection.source(task.id, stopped=stopped) if task.regrade else None
        partial = self._connection.partial(task.id, stopped=stopped) if task.partial else None
        located = None if task.regrade else self._locate(task, partial)
        return Fetched(examples, source, partial, located, seconds=time.monotonic() - began)

    def _look_ahead(self, in_hand: TaskInHand, pace: Pace) -> None:
        """Lease the next task, if the one in hand is nearly done: sooner, it would be kept from those who wait."""
        wanted = self._settings.lease_ahead and not self._settings.once and not self._shutdown.requested()
        if wanted and pace.seconds_left <= self._ahead_seconds:
            self._prefetch.ask(after=self._uploads.answered)
        if self._begun is None and (ahead := self._prefetch.ready) is not None:
            self._begun = ahead, self._begin(in_hand, ahead)

    def _begin(self, in_hand: TaskInHand, ahead: TaskInHand) -> Plan | None:
        """Ask the stream for the next task too, where it is of the same job and checkpoint: no place in the engine stays
        free then while the last answers to the one in hand are drawn."""
        task, fetched, located = ahead.task, required(ahead.ready), required(in_hand.ready).located
        one = (in_hand.task.job, in_hand.task.dtype) == (task.job, task.dtype) and task.kind != "embed"
        if self._stream is None or located is None or fetched.located is None or not one or ahead.stopped():
            return None
        rows = range(task.start, task.stop)
        if not located.is_same(fetched.located) or not self._stream.takes(rows, task.sampling):
            return None
        try:
            made = plan(task, fetched.examples, self._stream, fetched.partial, chat=fetched.located.chat)
        except Exception as error:  # it is raised again when its turn has come
            ahead.log.debug("the task could not be begun ahead", reason=str(error))
            return None
        self._stream.begin(made.feed)
        return made

    def _score(self, in_hand: TaskInHand, *, stopped: Callable[[], bool]) -> bytes:
        task, (stream, made) = in_hand.task, self._asked_ahead(in_hand)
        fetched = in_hand.fetched(stopped)
        # Twice as long as it took, for the lease and for chance; a download of gigabytes has to wait all the same.
        self._ahead_seconds = min(30.0, max(1.0, 2 * fetched.seconds))
        if task.kind == "embed":
            return self._embed(in_hand, fetched, stopped=stopped)
        graders = self._graders_for(task.grader)
        if fetched.source is not None:
            return regrade(task, fetched.examples, fetched.source, grading=graders, stopped=stopped)
        located = required(fetched.located)
        if stopped():
            raise Interrupted("stopped before the engine was started")
        began = time.monotonic()
        if stream is None:
            stream = self._stream = Stream(self._load(task, located, self._parts.make_engine))
        loading_seconds = time.monotonic() - began
        with (
            self._paced(in_hand, stream, loading_seconds=loading_seconds) as paced,
            PartialSaver(self._connection, in_hand) as keeper,
        ):
            content = run_pass(
                task,
                fetched.examples,
                paced,
                grading=graders,
                tokenizer_fingerprint=located.tokenizer,
                model=located.model,
                weights=located.weights,
                chat=located.chat,
                stopped=stopped,
                partial=fetched.partial,
                keeping=Keeping(keeper.keep, seconds=self._settings.keep_seconds),
                made=made,
            )
        check_kept(task, located)
        return content

    def _asked_ahead(self, in_hand: TaskInHand) -> tuple[Stream | None, Plan | None]:
        """The stream that has been asked for this task already, and for what; None, None: none has."""
        begun, self._begun = self._begun, None
        if begun is None or begun[0] is not in_hand or begun[1] is None:
            return None, None
        self._loaded = in_hand.task.checkpoint.path
        return self._stream, begun[1]

    def _end_stream(self) -> None:
        stream, self._stream, self._begun = self._stream, None, None
        if stream is None:
            return
        try:
            stream.abandon()
        except Exception:
            log.exception("the engine did not end what it was asked")
            self._close_engine()

    def _embed(self, in_hand: TaskInHand, fetched: Fetched, *, stopped: Callable[[], bool]) -> bytes:
        located = required(fetched.located)
        if stopped():
            raise Interrupted("stopped before the engine was started")
        began = time.monotonic()
        engine = self._load(in_hand.task, located, self._parts.make_embedder)
        with self._paced(in_hand, engine, loading_seconds=time.monotonic() - began) as paced:
            content = run_embedding(
                in_hand.task,
                fetched.examples,
                paced,
                tokenizer_fingerprint=located.tokenizer,
                model=located.model,
                weights=located.weights,
                chat=located.chat,
                stopped=stopped,
            )
        check_kept(in_hand.task, located)
        return content

    @contextmanager
    def _paced(self, in_hand: TaskInHand, engine: Engine, *, loading_seconds: float) -> Iterator[Paced]:
        """The engine for one pass: watched over, and the next task leased when it is nearly done."""
        pace = Pace()
        with self._watched("in the middle of a pass", seconds=self._settings.engine_seconds) as watch:
            watch.rest()  # until it is asked
            told = partial(self._look_ahead, in_hand, pace)
            paced = Paced(engine, pace, watch, loading_seconds=loading_seconds, told=told)
            yield paced
            in_hand.effort = paced.effort

    def _watched(self, what: str, *, seconds: float) -> AbstractContextManager[Watch]:
        return watched(what, seconds=seconds, kill=self._kill_engine, last_resort=self._end_with_engine)

    def _kill_engine(self) -> None:
        engine = self._engine
        if engine is not None:
            engine.kill()

    def _end_with_engine(self, reason: str) -> None:
        """From the watchdog's thread: the main thread is lost. Give back what is in hand, and end the process."""
        in_hand = self._current
        if in_hand is not None:
            report = failure_report(EngineError(reason), attempt=in_hand.task.attempt)
            until = time.monotonic() + 5.0
            try:
                self._beats.failure(in_hand.task.id, report, stopped=lambda: time.monotonic() > until)
            except (Interrupted, ServiceError) as unheard:
                in_hand.log.warning("the failure could not be reported", reason=str(unheard))
            self._in_hand.drop(in_hand)
        self._uploads.answered_since(self._uploads.answered, seconds=5.0, stopped=lambda: False)
        self._in_hand.give_back_all()
        log.error("worker ends with its engine", status=ENGINE_HANGS)
        end_now(ENGINE_HANGS)

    def _locate(self, task: LeasedTask, partial: bytes | None) -> Located:
        path = task.checkpoint.path
        located = self._parts.locate(path, task.base)
        if task.template.chat:
            located = located.chatting(task.checkpoint)
        if task.tokenizer is not None and located.tokenizer != task.tokenizer:
            what = "tokenizer or chat template" if task.template.chat else "tokenizer"
            raise CheckpointError(
                f"checkpoint {task.checkpoint.name!r} ({path}) has another {what} than the checkpoints before it: "
                "the checkpoints of one job must come from one run"
            )
        for known in (task.weights, None if partial is None else weights_of(partial)):
            fingerprints.check_same(task.checkpoint.name, known, located.weights)
        return located

    def _load(self, task: LeasedTask, located: Located, making: Callable[[], AnyEngine] | None) -> AnyEngine:
        """The engine of that making with the task's checkpoint. Another one makes room first: a GPU holds one."""
        if making is None:
            raise EngineError("this worker has no engine and can only grade anew what others sampled")
        self._end_stream()
        if self._engine is not None and self._made_by is not making:
            self._close_engine()
        with self._watched("while a checkpoint was loaded", seconds=self._settings.load_seconds):
            if self._engine is None:
                self._engine, self._made_by = making(), making
            engine = cast(AnyEngine, self._engine)
            self._loaded = None  # until it is, again
            engine.load(located.folder, dtype=task.dtype, adapter=located.adapter)
        self._loaded, self._device = task.checkpoint.path, engine.produced_by["device"]
        return engine

    def _graders_for(self, choice: GraderChoice) -> Graders:
        if self._graders is not None and self._graders[0] != choice:
            self._close_graders()
        if self._graders is None:
            self._graders = (choice, self._parts.make_graders(choice))
        return self._graders[1]

    def _fail(self, in_hand: TaskInHand, error: Exception) -> None:
        """Report the failure."""
        report = failure_report(error, attempt=in_hand.task.attempt)
        if not report.permanent:
            self._failures_in_a_row += 1
        if isinstance(error, PrememError):
            in_hand.log.warning(
                "task failed", error=str(error), permanent=report.permanent, checkpoint_fault=report.checkpoint
            )
        else:
            in_hand.log.error("task failed", exc_info=error)
        try:
            self._connection.failure(in_hand.task.id, report, stopped=in_hand.stopped)
        except (Interrupted, ServiceError) as unheard:
            in_hand.log.warning("the failure could not be reported", reason=str(unheard))

    def _put_back(self, in_hand: TaskInHand) -> None:
        self._in_hand.give_back(in_hand, self._connection)

    def _close_engine(self) -> None:
        self._end_stream()
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


def required(found: Found | None) -> Found:
    assert found is not None, "what is looked at here is there"  # noqa: S101
    return found


def check_kept(task: LeasedTask, located: Located) -> None:
    """Raises CheckpointError where a file of the checkpoint is another one than before the pass."""
    # Whether the file changed before or after it was read, nobody can say.
    if (name := located.overwritten()) is not None:
        doing = "embedded with" if task.kind == "embed" else "scored"
        raise CheckpointError(
            f"checkpoint {task.checkpoint.name!r} was written anew while it was {doing} ({name} in {located.folder} is "
            "another file now): keep the checkpoints of a job as they are until it ends, and post the job again"
        )


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
