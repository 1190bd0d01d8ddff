"""Commands that make a new job out of a completed one: regrade, resample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from premem.cli.exits import FAILED, print_json
from premem.cli.jobs import watched
from premem.cli.options import AsJson, GraderOptions, JobId, ServiceUrl, asked, options_from
from premem.output.console import say

if TYPE_CHECKING:
    from premem.client.client import Client
    from premem.wire.jobs import Job


def add_to(app: typer.Typer, *, panel: str) -> None:
    for command in (regrade, resample):
        app.command(rich_help_panel=panel)(command)


def regrade(
    job: JobId,
    grader: Annotated[str, typer.Option(metavar="NAME", help="gsm8k, math, exact, choice, regex, authors, …")],
    grader_options: GraderOptions = None,
    name: Annotated[str, typer.Option(help="Of the new job. Absent: the old one's.")] = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until it is done, and print where the two disagree.")
    ] = False,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """Grade a completed job's answers with another grader.

    Nothing is sampled again: it is a new job that any worker does, one without a GPU too (`python -m premem_worker --engine
    none`). Only where a job drew no more than its scores needed may other verdicts need further answers, and those take
    an engine. Its report says where the two graders disagree.

    Example: `premem regrade job_0123 --grader math --wait`
    """
    from premem.client.client import Client
    from premem.wire.bodies import GraderChoice

    choice = asked(GraderChoice, name=grader, options=options_from(grader_options))
    with Client(service) as client:
        new = client.regrade(job, choice, name=name)
        told = f"{new.id} grades the answers of {job} with {grader}: premem report {new.id}"
        _follow(client, new, wait=wait, as_json=as_json, doing=f"grading with {grader}", told=told)


def resample(
    job: JobId,
    samples: Annotated[int, typer.Option(metavar="N", min=2, help="Answers per example and checkpoint, in all.")],
    name: Annotated[str, typer.Option(help="Of the new job. Absent: the old one's.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Stay until it is done, and print its report.")] = False,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """Draw more answers for a completed job.

    It is a new job that keeps the answers that there are and draws only those that are missing; its scores are the ones
    that as many samples would have given at once.

    Example: `premem resample job_0123 --samples 20 --wait`
    """
    from premem.client.client import Client

    with Client(service) as client:
        new = client.resample(job, samples, name=name)
        told = f"{new.id} goes on from the answers of {job}: premem status {new.id} --watch"
        _follow(client, new, wait=wait, as_json=as_json, doing="sampling", told=told)


def _follow(client: Client, new: Job, *, wait: bool, as_json: bool, doing: str, told: str) -> None:
    if not wait:
        if as_json:
            print_json(new)
        else:
            say(told)
        return
    ended = watched(client, new.id, doing=doing)
    if ended.state != "completed":
        say(f"{ended.id} {ended.state}: {'; '.join(ended.errors) or 'no reason is known'}")
        raise typer.Exit(FAILED)
    found = client.report(new.id)
    if as_json:
        print_json(found)
    else:
        from premem.output.reports import show_report

        show_report(found)
