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
from premem.payloads.results import weights_of
from premem.wire.bodies import GraderChoice
from premem.wire.tasks import ENGINE_HANGS, FailureReport, LeasedTask, LeaseRequest
from premem_worker.checkpoints import fingerprints
from premem_worker.engines.protocol import Engine
from premem_worker.lifetime.processes import end_now
from premem_worker.lifetime.shutdown import Ending
from premem_worker.lifetime.watchdog import Watch, watched
from premem_worker.parts import Graders, Located, Parts
from premem_worker.passes.embedding import run_embedding
from premem_worker.passes.pace import Pace, Paced
from premem_worker.passes.regrading import regrade
from premem_worker.passes.scoring import Keeping, Plan, plan, run_pass
from premem_worker.passes.stream import Stream
from premem_worker.settings import Settings
from premem_worker.tasks.connection import Connection, NothingToDo, jittered
from premem_worker.tasks.in_hand import Fetched, Held, Holding
from premem_worker.tasks.partials import Keeper
from premem_worker.tasks.prefetch import Ahead
from premem_worker.tasks.uploads import Uploads

AnyEngine = TypeVar("AnyEngine", bound=Engine)
Found = TypeVar("Found")

log = structlog.get_logger(__name__)


class Worker:
    """One worker. It keeps no state but the weights in memory, and writes nothing to disk."""

    def __init__(self, settings: Settings, parts: Parts, *, ending: Ending) -> None:
        self._settings = settings
        self._parts = parts
        self._ending = ending
        self._connection = self._connect()
        self._beats = self._connect()
        self._holding = Holding(self._beats)
        self._uploads = Uploads(self._hand_in)
        self._ahead = Ahead(
            lambda abandoned: self._lease(lambda: abandoned() or self._ending.asked()), self._fetch, self._put_back
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
        self._begun: tuple[Held, Plan | None] | None = None
        """The task ahead, and what the stream has been asked for it; None: it has to wait for its turn."""
        self._current: Held | None = None
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
            while not self._ending.asked():
                answered = self._uploads.answered
                held = self._next()
                if held is None:
                    if not self._wait_for_work(answered):
                        break
                    continue
                self._work(held)
                self._idle_since = time.monotonic()
                if self._settings.once:
                    break
        except Interrupted:
            pass  # while nothing but a task was waited for
        finally:
            self._ahead.put_back()
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
        self._holding.give_back_all()

    def _connect(self) -> Connection:
        key = self._settings.api_key
        return Connection(
            self._settings.service,
            api_key=key.get_secret_value() if key else None,
            request_seconds=self._settings.request_seconds,
        )

    def _next(self) -> Held | None:
        """The task that was leased ahead, or another one. None: there is none. Raises Interrupted."""
        held = self._ahead.take(stopped=self._ending.asked)
        if held is not None:
            return held
        try:
            held = self._lease(self._is_over)
        except ServiceError as error:
            if not self._welcome and not isinstance(error, Conflict) and (error.status or 0) < 500:
                raise
            log.warning("the service hands out no task", reason=str(error))
            self._ask_again_seconds = 15.0
            return None
        self._welcome = True
        if held is not None:
            self._fetch(held)
        return held

    def _lease(self, stopped: Callable[[], bool]) -> Held | None:
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
        return self._holding.take(leased, leased_at=time.monotonic())

    def _wait_for_work(self, answered: int) -> bool:
        """Before the next lease is asked for. False: there is no use in it.

        A result that has been handed in since the last one was asked for, the `answered`-th or a later one, may have
        made tasks.
        """
        pause = jittered(self._ask_again_seconds)
        if self._uploads.pending or self._uploads.answered != answered:
            if self._uploads.answered_since(answered, seconds=pause, stopped=self._ending.asked):
                self._idle_since = time.monotonic()
            return True
        if self._is_over():
            return False
        self._ending.wait(min(pause, self._idle_seconds_left()))
        return True

    def _idle_seconds_left(self) -> float:
        if self._settings.exit_when_idle is None:
            return float("inf")
        return self._idle_since + self._settings.exit_when_idle - time.monotonic()

    def _is_over(self) -> bool:
        return self._ending.asked() or self._idle_seconds_left() <= 0

    def _work(self, held: Held) -> None:
        """One task until its result is on its way, or whatever else becomes of it. Raises nothing."""
        held.began, self._current = time.monotonic(), held
        try:
            content = self._score(held, stopped=lambda: held.stopped() or self._ending.asked())
            self._uploads.put(held, content, stopped=held.stopped)
        except Exception as error:
            if not isinstance(error, InputError | Interrupted | ServiceError):
                # Nobody can say what is still whole.
                self._close_engine()
                self._close_graders()
            self._end_stream()
            self._end_without_result(held, error)
        self._current = None
        if not self._settings.lease_ahead:
            self._uploads.finish()
        if self._failures_in_a_row:
            # Another worker may have what this one lacks.
            self._end_stream()
            self._ahead.put_back()
            self._ending.wait(jittered(min(30.0, 0.5 * 2**self._failures_in_a_row)))

    def _hand_in(self, held: Held, content: bytes) -> None:
        """From the thread of the uploads. Raises nothing."""
        try:
            self._connection.result(held.task.id, held.task.attempt, content, stopped=held.stopped)
        except Exception as error:
            self._end_without_result(held, error)
        else:
            self._failures_in_a_row = 0
            took = {} if held.effort is None else asdict(held.effort)
            held.told.info("task done", seconds=round(time.monotonic() - (held.began or 0.0), 1), **took)
            self._holding.drop(held)

    def _end_without_result(self, held: Held, error: Exception) -> None:
        """Give the task back, drop it, or tell the service what went wrong."""
        if isinstance(error, Interrupted) and held.lease.lost is None:
            self._put_back(held)
        elif isinstance(error, Interrupted | Conflict):
            held.told.info("task dropped", reason=held.lease.lost or str(error))
        else:
            self._fail(held, error)
        self._holding.drop(held)

    def _fetch(self, held: Held) -> None:
        """What a task needs before it can begin. What goes wrong is raised when its turn has come."""
        held.fetch(lambda task: self._fetched(task, stopped=lambda: held.stopped() or self._ending.asked()))

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

    def _look_ahead(self, held: Held, pace: Pace) -> None:
        """Lease the next task, if the one in hand is nearly done: sooner, it would be kept from those who wait."""
        wanted = self._settings.lease_ahead and not self._settings.once and not self._ending.asked()
        if wanted and pace.seconds_left <= self._ahead_seconds:
            self._ahead.ask(after=self._uploads.answered)
        if self._begun is None and (ahead := self._ahead.ready) is not None:
            self._begun = ahead, self._begin(held, ahead)

    def _begin(self, held: Held, ahead: Held) -> Plan | None:
        """Ask the stream for the next task too, where it is of the same job, and of the same checkpoint or another adapter
        of the same base: no place in the engine stays free then while the last answers to the one in hand are drawn."""
        task, fetched, located = ahead.task, required(ahead.ready), required(held.ready).located
        one = (held.task.job, held.task.dtype) == (task.job, task.dtype) and task.kind != "embed"
        if self._stream is None or located is None or fetched.located is None or not one or ahead.stopped():
            return None
        model: int | None = None
        try:
            if not located.is_same(fetched.located):
                model = self._beside(task, located, fetched.located)
                if model is None:
                    return None
            if not self._stream.takes(range(task.start, task.stop), task.sampling, model=model):
                return None
            made = plan(task, fetched.examples, self._stream, fetched.partial, chat=fetched.located.chat)
        except Exception as error:  # it is raised again when its turn has come
            ahead.told.debug("the task could not be begun ahead", reason=str(error))
            return None
        self._stream.begin(made.feed, model=model)
        return made

    def _beside(self, task: LeasedTask, running: Located, located: Located) -> int | None:
        """The task's checkpoint beside the one that runs, as the stream numbers it. None: they do not go together."""
        if self._stream is None or not running.shares_base(located):
            return None
        with self._watched("while an adapter was loaded", seconds=self._settings.load_seconds):
            return self._stream.beside(located.folder, dtype=task.dtype, adapter=located.adapter)

    def _score(self, held: Held, *, stopped: Callable[[], bool]) -> bytes:
        task, (stream, made) = held.task, self._asked_ahead(held)
        fetched = held.fetched(stopped)
        # Twice as long as it took, for the lease and for chance; a download of gigabytes has to wait all the same.
        self._ahead_seconds = min(30.0, max(1.0, 2 * fetched.seconds))
        if task.kind == "embed":
            return self._embed(held, fetched, stopped=stopped)
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
            self._paced(held, stream, loading_seconds=loading_seconds) as paced,
            Keeper(self._connection, held) as keeper,
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

    def _asked_ahead(self, held: Held) -> tuple[Stream | None, Plan | None]:
        """The stream that has been asked for this task already, and for what; None, None: none has."""
        begun, self._begun = self._begun, None
        if begun is None or begun[0] is not held or begun[1] is None:
            return None, None
        self._loaded = held.task.checkpoint.path
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

    def _embed(self, held: Held, fetched: Fetched, *, stopped: Callable[[], bool]) -> bytes:
        located = required(fetched.located)
        if stopped():
            raise Interrupted("stopped before the engine was started")
        began = time.monotonic()
        engine = self._load(held.task, located, self._parts.make_embedder)
        with self._paced(held, engine, loading_seconds=time.monotonic() - began) as paced:
            content = run_embedding(
                held.task,
                fetched.examples,
                paced,
                tokenizer_fingerprint=located.tokenizer,
                model=located.model,
                weights=located.weights,
                chat=located.chat,
                stopped=stopped,
            )
        check_kept(held.task, located)
        return content

    @contextmanager
    def _paced(self, held: Held, engine: Engine, *, loading_seconds: float) -> Iterator[Paced]:
        """The engine for one pass: watched over, and the next task leased when it is nearly done."""
        pace = Pace()
        with self._watched("in the middle of a pass", seconds=self._settings.engine_seconds) as watch:
            watch.rest()  # until it is asked
            told = partial(self._look_ahead, held, pace)
            paced = Paced(engine, pace, watch, loading_seconds=loading_seconds, told=told)
            yield paced
            held.effort = paced.effort

    def _watched(self, what: str, *, seconds: float) -> AbstractContextManager[Watch]:
        return watched(what, seconds=seconds, kill=self._kill_engine, last_resort=self._end_with_engine)

    def _kill_engine(self) -> None:
        engine = self._engine
        if engine is not None:
            engine.kill()

    def _end_with_engine(self, reason: str) -> None:
        """From the watchdog's thread: the main thread is lost. Give back what is in hand, and end the process."""
        held = self._current
        if held is not None:
            report = failure_report(EngineError(reason), attempt=held.task.attempt)
            until = time.monotonic() + 5.0
            try:
                self._beats.failure(held.task.id, report, stopped=lambda: time.monotonic() > until)
            except (Interrupted, ServiceError) as unheard:
                held.told.warning("the failure could not be reported", reason=str(unheard))
            self._holding.drop(held)
        self._uploads.answered_since(self._uploads.answered, seconds=5.0, stopped=lambda: False)
        self._holding.give_back_all()
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

    def _fail(self, held: Held, error: Exception) -> None:
        """Report the failure."""
        report = failure_report(error, attempt=held.task.attempt)
        if not report.permanent:
            self._failures_in_a_row += 1
        if isinstance(error, PrememError):
            held.told.warning(
                "task failed", error=str(error), permanent=report.permanent, checkpoint_fault=report.checkpoint
            )
        else:
            held.told.error("task failed", exc_info=error)
        try:
            self._connection.failure(held.task.id, report, stopped=held.stopped)
        except (Interrupted, ServiceError) as unheard:
            held.told.warning("the failure could not be reported", reason=str(unheard))

    def _put_back(self, held: Held) -> None:
        self._holding.give_back(held, self._connection)

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
