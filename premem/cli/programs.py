"""Commands that become another program: serve, worker."""

from __future__ import annotations

import os
import sys

import typer

from premem.extras import PACKAGES, Program, check_installed, check_packages


def serve(context: typer.Context) -> None:
    """Start the service on this machine.

    Example: `premem serve --data-dir premem-data --port 8321`
    """
    _become("service", context.args)


def worker(context: typer.Context) -> None:
    """Work for a service: sample and score on this machine's GPU.

    Example: `premem worker --service http://10.0.0.5:8321 --checkpoint-root /runs`
    """
    _become("worker", context.args)


def _become(program: Program, arguments: list[str]) -> None:
    """Raises MissingExtra where it is not installed."""
    module = PACKAGES[program][0]
    if {"--help", "-h"} & set(arguments):
        check_packages(module, extra=program)  # it tells its flags before it needs anything else
    else:
        check_installed(program)
    sys.stdout.flush()
    sys.stderr.flush()
    # -P: a folder of the program's name where the user stands is not ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])  # noqa: S606
