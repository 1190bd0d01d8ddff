"""How the commands speak: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pydantic import BaseModel

    from premem.wire.bodies import Job

OK, FAILED, BAD_INPUT, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = (
    "Exit codes: 0 it worked, 1 it failed (a job that failed, for one), 2 bad usage or input, "
    "3 the service is unreachable, 130 Ctrl-C."
)
LINE_SECONDS = 2.0
"""Between two plain lines of progress."""
SHOWN_LINES = 20


def say(message: str) -> None:
    """A line on stderr, for people."""
    from premem.output.reports import printable

    print(printable(message, lines=True), file=sys.stderr, flush=True)


def print_json(value: BaseModel | dict[str, Any]) -> None:
    # ASCII only: what a model wrote reaches the terminal as \u escapes.
    print(json.dumps(value if isinstance(value, dict) else value.model_dump(mode="json")))


def complain(error: BaseException) -> int:
    """One line on stderr (bad rows, a line each), and the exit code that fits."""
    from premem.errors import InputError, NotFound, RowsError, ServiceError, Unreachable

    say(f"premem: {error}")
    if isinstance(error, RowsError):
        for line in error.lines[:SHOWN_LINES]:
            if str(line) not in str(error):
                say(f"  {line}")
        if (more := error.total - min(len(error.lines), SHOWN_LINES)) > 0:
            say(f"  … and {more:,} more")
    if isinstance(error, ServiceError) and error.status == 401:
        say("  PREMEM_API_KEY holds the key that is shown to the service")
    if isinstance(error, Unreachable):
        return UNREACHABLE
    wrong_input = InputError | NotFound | FileNotFoundError | PermissionError | NotADirectoryError | IsADirectoryError
    return BAD_INPUT if isinstance(error, wrong_input) else FAILED


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

    from premem.output.reports import printable

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


def duration(seconds: float) -> str:
    """40 s, 12 min, 3 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
