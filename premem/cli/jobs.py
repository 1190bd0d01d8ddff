"""Commands about data sets and jobs of a running service: upload, status, workers, cancel, report, regrade, resample."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from premem.cli.exits import FAILED, SHOWN_LINES, print_json
from premem.cli.options import (
    AsJson,
    FinalAnswer,
    Grader,
    GraderOptions,
    IdColumn,
    JobId,
    MaxUngradable,
    Messages,
    Question,
    RepairLatex,
    ServiceUrl,
    Trace,
    asked,
    columns_from,
    options_from,
)
from premem.client.client import Client
from premem.client.sources import is_source, source
from premem.files import whole_file
from premem.forecasting.rules import RuleName
from premem.output.console import say, show
from premem.output.html import SHOWN, page
from premem.output.progress import job_progress, progress
from premem.output.reports import job_parts, jobs_table, show_report, workers_table
from premem.output.text import printable
from premem.wire.bodies import GraderChoice
from premem.wire.curation import Choice
from premem.wire.datasets import Columns, Dataset
from premem.wire.jobs import Job

JOBS_LISTED = 20


def upload(
    data: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="JSONL, a JSON array, Parquet, Arrow or CSV; plain, gzip or zstd. Or s3://bucket/key, or "
            "hf://org/name?split=train, read here and sent on.",
        ),
    ],
    name: Annotated[str | None, typer.Option(help="For people. Absent: the file's name.")] = None,
    grader: Grader = None,
    grader_options: GraderOptions = None,
    max_ungradable: MaxUngradable = None,
    repair_latex: RepairLatex = None,
    question: Question = None,
    trace: Trace = None,
    final_answer: FinalAnswer = None,
    id_: IdColumn = None,
    messages: Messages = None,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """Send a data set to the service.

    The same rows are the same data set. Every row's own reference is graded; the lines where it does not grade as right are listed.

    Example: `premem upload train.jsonl --grader gsm8k --question prompt --trace solution`
    """
    columns = columns_from(question=question, trace=trace, final_answer=final_answer, id_=id_, messages=messages)
    with Client(service) as client:
        dataset = send(
            client,
            data,
            columns=columns,
            name=name,
            grader=grader,
            grader_options=options_from(grader_options),
            max_ungradable=max_ungradable,
            repair_latex=repair_latex,
        )
    if as_json:
        print_json(dataset)
        return
    show(f"{dataset.id}: {dataset.rows:,} rows of {printable(dataset.name)}, grader {dataset.grader.name}")
    warn_of_rows(dataset)


def send(client: Client, data: str | Path, *, columns: Columns, **asked: Any) -> Dataset:
    """Upload a file, or what lies elsewhere, and show how far it is."""
    away = isinstance(data, str) and is_source(data)
    name = source(str(data)).name if away else Path(data).name
    total = None if away or not Path(data).is_file() else Path(data).stat().st_size
    with progress(f"sending {name}", unit="bytes") as meter:
        dataset = client.upload(data, columns=columns, progress=lambda sent: meter(sent, total), **asked)
    if dataset.grader_reason is not None:
        options = "".join(f" {option}={value}" for option, value in dataset.grader.options.items())
        say(f"grader {dataset.grader.name}{options}, because {dataset.grader_reason}; --grader NAME takes another")
    return dataset


def warn_of_rows(dataset: Dataset) -> None:
    """Say what was repaired, what no chat template can ask, and which references do not grade."""
    if dataset.repaired:
        say(f"{dataset.repaired:,} backslashes of LaTeX were put back: what is scored are the repaired rows")
    if dataset.chats:
        say(
            f"{dataset.chats:,} of {dataset.rows:,} rows have a system message, tools or earlier turns: all of it is asked "
            "as one text, each message behind its role, and --chat refuses them"
        )
    if not dataset.ungradable:
        return
    say(f"{dataset.ungradable:,} of {dataset.rows:,} references do not grade as right themselves:")
    for line in dataset.ungradable_lines[:SHOWN_LINES]:
        say(f"  line {line.line}{f', {line.field}' if line.field else ''}: {line.message}")
    if (more := dataset.ungradable - min(SHOWN_LINES, len(dataset.ungradable_lines))) > 0:
        say(f"  … and {more:,} more")


def status(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="Absent: the latest jobs are listed.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay until the job has ended, showing how far it is.")
    ] = False,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """Say how far a job is.

    The exit code is 1 where the job failed (with --watch: where it did not complete).

    Example: `premem status job_0123 --watch`
    """
    with Client(service) as client:
        if job is None:
            latest = list(islice(client.jobs(), JOBS_LISTED))
            if as_json:
                print_json({"items": [one.model_dump(mode="json") for one in latest]})
            else:
                show(jobs_table(latest) if latest else "There are no jobs.")
            return
        found = watched(client, job) if watch else client.job(job)
    if as_json:
        print_json(found)
    else:
        show_job(found)
    if found.state == "failed" or (watch and found.state != "completed"):
        raise typer.Exit(FAILED)


def watched(client: Client, job: str, *, doing: str = "scoring", **waiting: Any) -> Job:
    """The job once it has ended, its progress shown until then. `on_progress` in `waiting` is called, too."""
    also = waiting.pop("on_progress", None)
    with job_progress(doing) as show_progress:

        def seen(found: Job) -> None:
            show_progress(found)
            if also:
                also(found)

        return client.wait(job, on_progress=seen, **waiting)


def show_job(job: Job) -> None:
    show(*job_parts(job))
    tell_warnings(job)


def tell_warnings(job: Job) -> None:
    for warning in job.warnings:
        say(f"warning: {warning}")
    for error in job.errors:
        say(f"error: {error}")


def workers(service: ServiceUrl = None, as_json: AsJson = False) -> None:
    """List the workers that are connected: who asked for a task within the last minute, or has one in hand.

    Example: `premem workers --service http://127.0.0.1:8321`
    """
    with Client(service) as client:
        found = list(client.workers())
    if as_json:
        print_json({"items": [one.model_dump(mode="json") for one in found]})
    else:
        show(workers_table(found) if found else "No worker is connected: premem worker starts one.")


def cancel(job: JobId, service: ServiceUrl = None, as_json: AsJson = False) -> None:
    """Stop a job. What its workers have in hand is dropped.

    Example: `premem cancel job_0123`
    """
    with Client(service) as client:
        found = client.cancel(job)
    if as_json:
        print_json(found)
    else:
        show(f"{printable(found.id)}: {found.state}")


def report(
    job: JobId,
    calibration: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Forecast the test accuracy with it. Absent: as the job was posted."),
    ] = None,
    rule: Annotated[
        RuleName | None, typer.Option(help="What is averaged. Absent: the calibration's, or the paper's.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write it as one HTML file instead, with curves, scores and the lowest examples."
        ),
    ] = None,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """Print a job's accuracies, checkpoint by checkpoint.

    Train accuracy, share memorized, pre-memorization accuracy and, with a test set, test accuracy; with a calibration
    the forecast of test accuracy and its 90% interval, or why it is refused.

    Example: `premem report job_0123 --calibration llama-gsm8k`
    """
    with Client(service) as client:
        if html is not None:
            _write_html(client, job, html)
            return
        found = client.report(job, calibration=calibration, rule=rule)
    if as_json:
        print_json(found)
    else:
        show_report(found)


def _write_html(client: Client, job: str, path: Path) -> None:
    content = html_report(client, job).encode()
    with whole_file(path) as out:
        out.write(content)
    say(f"the report: {path}")


def html_report(client: Client, job: str, *, examples: int = SHOWN) -> str:
    """The whole file. Raises Conflict until the job is completed."""
    about, report, matrix = client.job(job), client.report(job), client.matrix(job)
    lowest = [client.example(job, int(row)) for row in matrix.row_E[:examples]]
    # The policy does not matter for where the scores came from; this one fits every job.
    choice: Choice = {} if about.below is None else {"below": about.below}
    return page(about, report, matrix.score_E.astype(float), lowest, client.curated_lineage(job, **choice))


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
        show_report(found)
