"""The progress of a job and of an upload, on a terminal or in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from premem.output.console import say
from premem.output.text import duration

if TYPE_CHECKING:
    from premem.wire.jobs import Job


LINE_SECONDS = 2.0
"""Between two plain lines of progress."""


class Meter(Protocol):
    """Shows how far something is."""

    def __call__(self, done: int, total: int | None, about: str = "") -> None: ...


@contextmanager
def progress(what: str, *, unit: str) -> Iterator[Meter]:
    """A bar on a terminal, elsewhere a line every couple of seconds. `unit`: examples, or bytes."""
    if sys.stderr.isatty():
        with _bar(what, unit=unit) as meter:
            yield meter
    else:
        yield _Lines(what, unit=unit)


class _Lines:
    def __init__(self, what: str, *, unit: str) -> None:
        self._what = what
        self._unit = unit
        self._said: str | None = None
        self._said_at = float("-inf")

    def __call__(self, done: int, total: int | None, about: str = "") -> None:
        now = time.monotonic()
        finished = total is not None and done >= total
        if not finished and now - self._said_at < LINE_SECONDS:
            return
        of = "" if total is None else f" of {total:,}"
        line = f"{self._what}: {done:,}{of} {self._unit}{', ' if about else ''}{about}"
        if line != self._said:
            say(line)
            self._said, self._said_at = line, now


@contextmanager
def _bar(what: str, *, unit: str) -> Iterator[Meter]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn

    from premem.output.text import printable

    count = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), count, TextColumn("{task.fields[about]}"), console=console
    ) as bars:
        task = bars.add_task(escape(printable(what)), total=None, about="")

        def meter(done: int, total: int | None, about: str = "") -> None:
            bars.update(task, completed=done, total=total, about=escape(printable(about)))

        yield meter


@contextmanager
def job_progress(doing: str) -> Iterator[Callable[[Job], None]]:
    """Shows how far a job is, each time that it is told of it."""
    with progress(doing, unit="examples") as meter:
        yield lambda found: meter(found.counts.examples, found.counts.examples_total or None, about_job(found))


def about_job(job: Job) -> str:
    """What a job is doing, in a few words."""
    if job.state == "queued":
        return "waiting for a worker"
    if job.state != "running":
        return job.state
    whole = job.trajectory == "everything"
    # Of the other trajectories every checkpoint may get more to do until the end.
    at_work = [one.name for one in job.checkpoints if one.tasks.leased or (whole and one.state == "running")]
    measured = not whole and job.counts.examples == job.counts.examples_total
    drawing = f"{job.counts.samples:,} answers drawn that may change a score" if measured else ""
    left = "" if job.seconds_left is None else f"about {duration(job.seconds_left)} left"
    return ", ".join(filter(None, [", ".join(at_work[:3]), drawing, left])) or "running"
