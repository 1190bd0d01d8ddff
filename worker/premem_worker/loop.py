"""Lease a task, do it, hand its result in, and again; the next one is leased while the last answers are drawn.

A task goes one way: it is leased and what it needs is fetched (holding), the engine's requests are planned (passes.plan),
streamed through the engine (stream) past a meter (pace), the answers graded (passes.graded), and the result is handed in
by a thread of its own (uploads).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TypeVar

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
from premem.payloads import embeddings, results
from premem.wire.tasks import ENGINE_HANGS, FailureReport, LeasedTask, LeaseRequest
from premem_worker.checkpoints.located import Located
from premem_worker.engines.protocol import Engine
from premem_worker.equipment import Equipment
from premem_worker.lifetime.processes import end_now
from premem_worker.lifetime.shutdown import Shutdown
from premem_worker.parts import Graders, Parts
from premem_worker.passes.embedding import embedded_rows, plan_embedding
from premem_worker.passes.pace import Meter, Pace, close
from premem_worker.passes.plan import plan
from premem_worker.passes.regrading import regrade
from premem_worker.passes.scoring import Saving, graded
from premem_worker.settings import Settings
from premem_worker.tasks.connection import Connection, NothingToDo, jittered
from premem_worker.tasks.in_hand import Fetched, TaskInHand, TasksInHand, fetch
from premem_worker.tasks.partials import PartialSaver
from premem_worker.tasks.prefetch import Prefetch
from premem_worker.tasks.uploads import Uploads

Found = TypeVar("Found")
Outcome = TypeVar("Outcome")

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
        self._current: TaskInHand | None = None
        self._equipment = Equipment(parts, settings, last_resort=self._end_with_engine)
        self._uploads = Uploads(self._hand_in)
        self._prefetch = Prefetch(
            lambda abandoned: self._lease(lambda: abandoned() or self._shutdown.requested()),
            self._fetch,
            self._give_back,
        )
        self._prefetch_seconds = 1.0
        """Before its end a pass has the next task leased, which others may be waiting for."""
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
        self._equipment.close()
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

    # Lease

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
            device=self._equipment.device,
            loaded_checkpoint=self._equipment.loaded,
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

    def _fetch(self, in_hand: TaskInHand) -> None:
        """What a task needs before it can begin. What goes wrong is raised when its turn has come."""
        stopped = self._stopped(in_hand)
        in_hand.fetch(lambda task: fetch(task, self._connection, self._parts.locate, stopped=stopped))

    def _stopped(self, in_hand: TaskInHand) -> Callable[[], bool]:
        return lambda: in_hand.stopped() or self._shutdown.requested()

    # Do

    def _work(self, in_hand: TaskInHand) -> None:
        """One task until its result is on its way, or whatever else becomes of it. Raises nothing."""
        in_hand.began, self._current = time.monotonic(), in_hand
        try:
            content = self._result(in_hand, stopped=self._stopped(in_hand))
            self._uploads.put(in_hand, content, stopped=in_hand.stopped)
        except Exception as error:
            if not isinstance(error, InputError | Interrupted | ServiceError):
                # Nobody can say what is still whole.
                self._equipment.close()
            self._equipment.end_stream()
            self._end_without_result(in_hand, error)
        self._current = None
        if not self._settings.lease_ahead:
            self._uploads.finish()
        if self._failures_in_a_row:
            # Another worker may have what this one lacks.
            self._equipment.end_stream()
            self._prefetch.put_back()
            self._shutdown.wait(jittered(min(30.0, 0.5 * 2**self._failures_in_a_row)))

    def _result(self, in_hand: TaskInHand, *, stopped: Callable[[], bool]) -> bytes:
        """What the service takes for the task. Raises whatever a pass may raise."""
        task, fetched = in_hand.task, in_hand.fetched(stopped)
        # Twice as long as it took, for the lease and for chance; a download of gigabytes has to wait all the same.
        self._prefetch_seconds = min(30.0, max(1.0, 2 * fetched.seconds))
        if task.kind == "embed":
            return self._embed(in_hand, fetched, stopped=stopped)
        graders = self._equipment.graders(task.grader)
        if fetched.source is not None:
            return regrade(task, fetched.examples, fetched.source, grading=graders, stopped=stopped)
        return self._score(in_hand, fetched, graders, stopped=stopped)

    def _score(self, in_hand: TaskInHand, fetched: Fetched, graders: Graders, *, stopped: Callable[[], bool]) -> bytes:
        """Plan, stream through the engine, grade, encode."""
        task, located = in_hand.task, required(fetched.located)
        if stopped():
            raise Interrupted("stopped before the engine was started")
        began = time.monotonic()
        stream, made, in_hand.plan = self._equipment.stream, in_hand.plan, None
        if stream is None or made is None or not stream.has_begun(made.feed):
            stream, made = self._equipment.streaming(task, located), None
        self._equipment.loaded = task.checkpoint.path
        loading_seconds = time.monotonic() - began
        made = made or plan(task, fetched.examples, stream.engine, fetched.partial, chat=located.chat)
        produced_by = made_by(stream.engine, located)
        with (
            self._equipment.watched_pass() as watch,
            PartialSaver(self._connection, in_hand, produced_by=produced_by) as saver,
        ):
            meter = Meter(watch, loading_seconds=loading_seconds, cache_bytes=stream.engine.cache_bytes)
            outcomes = stream.run(made.feed, sampling=task.sampling, stopped=meter.watched(stopped))
            outcomes = self._looking_ahead(meter.answers(outcomes, made.feed), in_hand, meter.pace)
            saving = Saving(saver.save, seconds=self._settings.keep_seconds)
            rows = graded(made, outcomes, grading=graders, stopped=stopped, saving=saving)
            in_hand.effort = meter.effort
        check_kept(task, located)
        return results.encode(rows, produced_by={**produced_by, **in_hand.effort.as_metadata()})

    def _embed(self, in_hand: TaskInHand, fetched: Fetched, *, stopped: Callable[[], bool]) -> bytes:
        """Plan, stream through the engine, encode."""
        task, located = in_hand.task, required(fetched.located)
        if stopped():
            raise Interrupted("stopped before the engine was started")
        began = time.monotonic()
        engine = self._equipment.embedding(task, located)
        loading_seconds = time.monotonic() - began
        made = plan_embedding(task, fetched.examples, engine, chat=located.chat)
        with self._equipment.watched_pass() as watch:
            meter = Meter(watch, loading_seconds=loading_seconds)
            outcomes = engine.embed(made.requests, stopped=meter.watched(stopped))
            outcomes = self._looking_ahead(meter.embeddings(outcomes, made.requests), in_hand, meter.pace)
            rows = embedded_rows(made, outcomes)
            in_hand.effort = meter.effort
        check_kept(task, located)
        return embeddings.encode(rows, produced_by={**made_by(engine, located), **in_hand.effort.as_metadata()})

    def _looking_ahead(self, outcomes: Iterator[Outcome], in_hand: TaskInHand, pace: Pace) -> Iterator[Outcome]:
        """The same, and at each of them, and after the last one, a look whether the next task may be leased or begun."""
        try:
            for outcome in outcomes:
                self._look_ahead(in_hand, pace)
                yield outcome
            self._look_ahead(in_hand, pace)
        finally:
            close(outcomes)

    def _look_ahead(self, in_hand: TaskInHand, pace: Pace) -> None:
        """Lease the next task, if the one in hand is nearly done: sooner, it would be kept from those who wait."""
        wanted = self._settings.lease_ahead and not self._settings.once and not self._shutdown.requested()
        if wanted and pace.seconds_left <= self._prefetch_seconds:
            self._prefetch.ask(after=self._uploads.answered)
        if (ahead := self._prefetch.take_notice()) is not None:
            self._begin(in_hand, ahead)

    def _begin(self, in_hand: TaskInHand, ahead: TaskInHand) -> None:
        """Ask the stream for the next task too, where it is of the same job and checkpoint: no place in the engine stays
        free then while the last answers to the one in hand are drawn."""
        stream, located = self._equipment.stream, required(in_hand.ready).located
        task, fetched = ahead.task, required(ahead.ready)
        one = (in_hand.task.job, in_hand.task.dtype) == (task.job, task.dtype) and task.kind != "embed"
        if stream is None or located is None or fetched.located is None or not one or ahead.stopped():
            return
        if not located.is_same(fetched.located) or not stream.takes(range(task.start, task.stop), task.sampling):
            return
        try:
            made = plan(task, fetched.examples, stream.engine, fetched.partial, chat=fetched.located.chat)
        except Exception as error:  # it is raised again when its turn has come
            ahead.log.debug("the task could not be begun ahead", reason=str(error))
            return
        stream.begin(made.feed)
        ahead.plan = made

    # Hand in

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
            self._give_back(in_hand)
        elif isinstance(error, Interrupted | Conflict):
            in_hand.log.info("task dropped", reason=in_hand.lease.lost or str(error))
        else:
            self._fail(in_hand, error)
        self._in_hand.drop(in_hand)

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

    def _give_back(self, in_hand: TaskInHand) -> None:
        self._in_hand.give_back(in_hand, self._connection)

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


def required(found: Found | None) -> Found:
    assert found is not None, "what is looked at here is there"  # noqa: S101
    return found


def made_by(engine: Engine, located: Located) -> dict[str, str]:
    """For a result's metadata: which engine, tokenizer, model and weights it comes from."""
    known = {"tokenizer": located.tokenizer, "model": located.model, results.WEIGHTS: located.weights}
    return {**engine.produced_by, **known}


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
