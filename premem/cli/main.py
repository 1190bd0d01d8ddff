"""`premem …`: the commands, each of which loads what it needs when it runs, so that help comes at once."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from premem.cli import calibrations as cli_calibrations
from premem.cli import curation as cli_curation
from premem.cli import derived as cli_derived
from premem.cli import examples as cli_examples
from premem.cli import jobs as cli_jobs
from premem.cli import recorded as cli_recorded
from premem.cli import recorded_probe as cli_recorded_probe
from premem.cli import score_options as cli_score
from premem.cli import tags as cli_tags
from premem.cli.exits import EXIT_CODES, complain
from premem.cli.options import GraderOptions, asked, options_from
from premem.output.console import say

app = typer.Typer(
    name="premem",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Find the training examples that your model could not solve before it memorized them.\n\n"
    "On one machine: `premem score train.jsonl out/checkpoint-*`\n\n"
    "With a service that stays up: `premem serve`, `premem worker` on each machine with a GPU, then `premem score` "
    "with `--service`, or `premem upload` and the HTTP interface.",
    epilog=EXIT_CODES,
)
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
SERVICE_PANEL = "A service that stays up"
GRADING_PANEL = "Grading"
CURATION_PANEL = "Choose what to train on next"
CALIBRATION_PANEL = "Calibration"
DYNAMICS_PANEL = "Learning dynamics"

cli_score.add_to(app)


@app.command(context_settings=PASSED_ON, rich_help_panel=SERVICE_PANEL, add_help_option=False)
def serve(context: typer.Context) -> None:
    """Start the service on this machine.

    Example: `premem serve --data-dir premem-data --port 8321`
    """
    _become("premem_service", context.args)


@app.command(context_settings=PASSED_ON, rich_help_panel=SERVICE_PANEL, add_help_option=False)
def worker(context: typer.Context) -> None:
    """Work for a service: sample and score on this machine's GPU.

    Example: `premem worker --service http://10.0.0.5:8321 --checkpoint-root /runs`
    """
    if not {"--help", "-h"} & set(context.args):
        from premem.local import check_worker_is_installed

        check_worker_is_installed()
    _become("premem_worker", context.args)


def _become(program: str, arguments: list[str]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    # -P: a folder of the program's name where the user stands is not ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", program, *arguments])  # noqa: S606


cli_jobs.add_to(app, panel=SERVICE_PANEL)
cli_examples.add_to(app, panel=SERVICE_PANEL)
cli_derived.add_to(app, panel=SERVICE_PANEL)
cli_curation.add_to(app, panel=CURATION_PANEL)
cli_tags.add_to(app, panel=CURATION_PANEL)
cli_recorded.add_to(app, panel=CALIBRATION_PANEL)
cli_calibrations.add_to(app, panel=CALIBRATION_PANEL)
cli_recorded_probe.add_to(app, panel=DYNAMICS_PANEL)


@app.command(rich_help_panel=GRADING_PANEL)
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
    from premem.grading.command import grade_stream
    from premem.wire.bodies import GraderChoice

    options = options_from(grader_options)
    choice = asked(GraderChoice, name=grader, options=options, answer_seconds=answer_seconds)
    counts = grade_stream(sys.stdin.buffer, sys.stdout, grader=choice, jobs=jobs or os.cpu_count() or 1)
    sys.stdout.flush()
    say(
        f"{counts.total():,} answers: " + ", ".join(f"{number:,} {verdict}" for verdict, number in counts.most_common())
    )


def main() -> None:
    """Run the command line and exit with its status."""
    from premem.errors import PrememError

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (PrememError, OSError) as error:
        sys.exit(complain(error))


if __name__ == "__main__":
    main()
