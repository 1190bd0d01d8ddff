"""`python -m premem_worker`: see --help."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence

import structlog

from premem.errors import EngineError, ServiceError
from premem_worker.lifetime.processes import guard_group, lead_group
from premem_worker.lifetime.shutdown import Shutdown
from premem_worker.loop import Worker
from premem_worker.parts import Parts, real_parts
from premem_worker.settings import Settings, read_settings


def main(arguments: Sequence[str] | None = None, *, parts: Callable[[Settings], Parts] = real_parts) -> int:
    """Run one worker until it ends. Returns the exit status: 2 where it cannot start, or the service turns it away."""
    settings = read_settings(arguments)
    configure_logs(settings.log_level)
    try:
        made_of = parts(settings)
    except EngineError as error:
        print(f"premem worker: {error}", file=sys.stderr)
        return 2
    if lead_group():
        guard_group()
    shutdown = Shutdown()
    worker = Worker(settings, made_of, shutdown=shutdown)
    shutdown.listen(seconds=settings.ending_seconds, last_words=worker.give_back_at_once)
    try:
        status = worker.run()
    except ServiceError as error:
        print(f"premem worker: {refusal(settings, error)}", file=sys.stderr)
        status = 2
    worker.close()
    if shutdown.requested():
        # Libraries with threads of their own can take longer to leave than whoever sent SIGTERM waits.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def refusal(settings: Settings, error: ServiceError) -> str:
    """One line for the terminal: what the service said, and what to do."""
    if error.status in (401, 403):
        return f"{settings.service} refuses this worker: {error}. Set PREMEM_API_KEY to a key of that service."
    return f"{settings.service} hands out no tasks: {error}. Is this the URL of a premem service of the same version?"


def configure_logs(level: str) -> None:
    """Lines for people on a terminal, JSON elsewhere; on stderr."""
    terminal = sys.stderr.isatty()
    shape: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not terminal),
            *shape,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # Whatever stderr is at the moment: it may be replaced, and the one before closed.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


if __name__ == "__main__":
    sys.exit(main())
