"""Grading that nothing can hold up: unbounded graders run in processes that are killed when an answer's time is up."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Self

from premem.errors import GraderError, Interrupted
from premem.grading import Quick, get_grader
from premem.grading.processes import Died, Forge, GradingProcess, OutOfTime
from premem.records import Grade
from premem.wire.bodies import GraderChoice

MEMORY_BYTES = 1 << 30
"""That a grading process may take on top of what its grader has loaded."""
_AHEAD = 8

log = logging.getLogger(__name__)

_Task = tuple[str, str, "Future[Grade]"]


class GradingPool:
    """Grades answers by one grader, in up to `processes` processes. Use it as a context manager, or close it.

    A grader that cannot hang grades in the calling thread, and so does an unbounded one where it can say at once.
    Everything else goes to a grading process. An answer that takes longer than `choice.answer_seconds`, counted from
    when its process starts on it, gets the verdict `timeout`, and its process is killed and replaced. The same
    verdict, with a logged reason, is for an answer that exhausts the process's memory or stack, and for one whose
    process dies twice: it is tried again once, in case it was the system that ended the process.

    Raises GraderError for a grader or options that do not exist.
    """

    def __init__(self, choice: GraderChoice, *, processes: int, memory_bytes: int = MEMORY_BYTES) -> None:
        self.grader = get_grader(choice)
        self._seconds = choice.answer_seconds
        self._forge = Forge(choice, memory_bytes=memory_bytes)
        self._processes = max(1, processes)
        self._work: SimpleQueue[_Task | None] = SimpleQueue()
        self._lanes: list[threading.Thread] = []
        self._unfinished = 0
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, reference: str, answer: str) -> Future[Grade]:
        """Never waits for a process. The future raises GraderError where the grader itself is broken."""
        future: Future[Grade] = Future()
        try:
            grade = self._at_once(reference, answer)
        except GraderError as error:
            future.set_exception(error)
            return future
        if grade is not None:
            future.set_result(grade)
            return future
        with self._lock:
            if self._closed:
                raise Interrupted("grading was stopped")
            self._unfinished += 1
            if len(self._lanes) < min(self._processes, self._unfinished):
                lane = threading.Thread(target=self._run_lane, name=f"grading-{len(self._lanes)}", daemon=True)
                self._lanes.append(lane)
                lane.start()
            self._work.put((reference, answer, future))
        return future

    def grade_all(self, pairs: Iterable[tuple[str, str]]) -> Iterator[Grade]:
        """The grades of (reference, answer), in order; only a few pairs are read ahead."""
        futures: deque[Future[Grade]] = deque()
        try:
            for reference, answer in pairs:
                if not futures and (grade := self._at_once(reference, answer)) is not None:
                    yield grade
                    continue
                futures.append(self.submit(reference, answer))
                if len(futures) > _AHEAD * self._processes:
                    yield futures.popleft().result()
            while futures:
                yield futures.popleft().result()
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """End all processes. Answers that are not graded yet are cancelled, or raise Interrupted."""
        with self._lock:
            self._closed = True
            try:
                while (task := self._work.get_nowait()) is not None:
                    task[2].cancel()
            except Empty:
                pass
            for _ in self._lanes:
                self._work.put(None)
        self._forge.close()
        for lane in self._lanes:
            lane.join()

    def _at_once(self, reference: str, answer: str) -> Grade | None:
        try:
            if not self.grader.unbounded:
                return self.grader.grade(reference, answer)
            return self.grader.at_once(reference, answer) if isinstance(self.grader, Quick) else None
        except Exception as error:
            raise GraderError(f"grader {self.grader.name!r} failed on an answer: {error!r:.500}") from error

    def _run_lane(self) -> None:
        process: GradingProcess | None = None
        while (task := self._work.get()) is not None:
            reference, answer, future = task
            if future.set_running_or_notify_cancel():
                try:
                    process, grade = self._grade(process, reference, answer)
                    future.set_result(grade)
                except Exception as error:  # told to whoever waits for the grade
                    process = None
                    future.set_exception(error)
            with self._lock:
                self._unfinished -= 1
        if process is not None:
            process.close()

    def _grade(
        self, process: GradingProcess | None, reference: str, answer: str
    ) -> tuple[GradingProcess | None, Grade]:
        """The grade, and the process that goes on."""
        for last_try in (False, True):
            process = process or self._forge.fork()
            try:
                said = process.ask(reference, answer, seconds=self._seconds)
            except OutOfTime:
                self._forge.kill(process)
                return None, Grade("timeout")
            except Died:
                self._forge.kill(process)
                process = None
                if self._closed:
                    raise Interrupted("grading was stopped") from None
                log.warning("a grading process died%s", " again on the same answer: timeout" if last_try else "")
                continue
            if said.get("last"):
                process.close()
                process = None
            if "error" in said:
                if process is not None:
                    process.close()
                raise GraderError(said["error"])
            if "exhausted" in said:
                log.warning("grading an answer failed with %s: timeout", said["exhausted"])
                return process, Grade("timeout")
            return process, Grade(said["verdict"], said["extracted"])
        return None, Grade("timeout")


def grade_all(pairs: Iterable[tuple[str, str]], choice: GraderChoice, processes: int) -> Iterator[Grade]:
    """The grades of (reference, answer), in order; only a few pairs are read ahead.

    Raises GraderError, at the first grade, for a grader or options that do not exist.
    """
    with GradingPool(choice, processes=processes) as pool:
        yield from pool.grade_all(pairs)
