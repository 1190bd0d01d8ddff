"""The command that grades: grade."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from premem.cli.options import GraderOptions, asked, options_from
from premem.grading.command import grade_stream
from premem.output.console import say
from premem.wire.bodies import GraderChoice


def grade(
    grader: Annotated[str, typer.Option(metavar="NAME", help="gsm8k, math, exact, choice, regex, authors, …")],
    grader_options: GraderOptions = None,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Processes that grade. Absent: one per core.")
    ] = None,
    answer_seconds: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.01, help="Time limit for one answer; beyond it is a timeout.")
    ] = 5.0,
) -> None:
    """Grade answers, from stdin to stdout.

    One JSON object per line, in the same order: `{"reference": …, "answer": …}` in,
    `{"verdict": …, "extracted": …}` out.

    Example: `premem grade --grader math --jobs 4 < rows.jsonl > verdicts.jsonl`
    """
    options = options_from(grader_options)
    choice = asked(GraderChoice, name=grader, options=options, answer_seconds=answer_seconds)
    counts = grade_stream(sys.stdin.buffer, sys.stdout, grader=choice, jobs=jobs or os.cpu_count() or 1)
    sys.stdout.flush()
    say(
        f"{counts.total():,} answers: " + ", ".join(f"{number:,} {verdict}" for verdict, number in counts.most_common())
    )
