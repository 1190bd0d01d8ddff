"""Commands that calibrate on jobs of a running service, and bring it runs that others recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from premem.cli.exits import FAILED, print_json
from premem.cli.options import AsJson, Rule, ServiceUrl, asked, memorized_below_from
from premem.output.console import say

if TYPE_CHECKING:
    from premem.wire.jobs import Job


def add_to(app: typer.Typer, *, panel: str) -> None:
    for command in (calibrate, calibrations, import_recorded):
        app.command(rich_help_panel=panel)(command)


def calibrate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Under which it is kept.")],
    jobs: Annotated[list[str], typer.Argument(metavar="JOB", help="Completed, with a test set; at least two.")],
    rule: Annotated[Rule, typer.Option(help="What is averaged.")] = Rule.paper,
    memorized_below: Annotated[
        float | None, typer.Option(metavar="X", help="Perplexity, to learn what it explains. Absent: the best one.")
    ] = None,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """Find the threshold that best explains several jobs, and keep it under a name.

    The jobs must be runs of one model on one task, and should differ in learning rate. A job that is scored with
    `--calibration NAME` then gets a forecast of its test accuracy, or the reason why not.

    Example: `premem calibrate llama-gsm8k job_01 job_02 job_03 job_04`
    """
    from premem.client.client import Client
    from premem.output.calibrations import stored_calibration_text
    from premem.output.console import show
    from premem.wire.calibrations import CalibrationRequest

    asked(CalibrationRequest, name=name, jobs=jobs, rule=rule.value, memorized_below=memorized_below)
    with Client(service) as client:
        found = client.calibrate(name, jobs, rule=rule.value, memorized_below=memorized_below)
    if as_json:
        print_json(found)
        return
    show(stored_calibration_text(found))
    for warning in found.warnings:
        say(f"warning: {warning}")


def calibrations(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Absent: all are listed.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Forget the one that is named.")] = False,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """List the calibrations of a service, or show one.

    Example: `premem calibrations`, then `premem calibrations llama-gsm8k`
    """
    from premem.client.client import Client
    from premem.errors import InputError
    from premem.output.calibrations import calibrations_table, stored_calibration_text
    from premem.output.console import show

    if delete and name is None:
        raise InputError("--delete: name the calibration that is to be forgotten")
    with Client(service) as client:
        if name is None:
            every = list(client.calibrations())
            if as_json:
                print_json({"items": [one.model_dump(mode="json") for one in every]})
            else:
                show(calibrations_table(every) if every else "There are no calibrations.")
            return
        found = client.calibration(name)
        if delete:
            client.delete_calibration(found.id)
            say(f"{found.name} is forgotten")
            return
    if as_json:
        print_json(found)
    else:
        show(stored_calibration_text(found))


def import_recorded(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Recorded runs, in the layout of the metric's authors.")
    ],
    data: Annotated[
        str,
        typer.Option(metavar="DATA", help="Their training questions: a JSONL or Parquet file, or a data set's id."),
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Architecture and size, such as 'LlamaForCausalLM 8.03B'.")
    ],
    task: Annotated[str, typer.Option(metavar="NAME", help="Absent: the data's name.")] = "",
    grader: Annotated[str, typer.Option(metavar="NAME", help="What decided whether an answer was right.")] = "authors",
    memorized_below: Annotated[
        str | None, typer.Option(metavar="X", help="Perplexity, or gsm8k-llama3 or math-llama3.")
    ] = None,
    calibration: Annotated[str | None, typer.Option(metavar="NAME", help="Instead: a calibration.")] = None,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """Bring recorded runs into a service as finished jobs.

    They have rankings, curated subsets and reports like any other, but no answers, and can be calibrated on.

    Example: `premem import-recorded recorded-runs/ --data train.jsonl --model 'LlamaForCausalLM 8.03B'`
    """
    from premem.cli.jobs import send
    from premem.client.client import Client
    from premem.errors import InputError
    from premem.forecasting.calibration import doubtful_subset
    from premem.forecasting.recorded_runs import read_runs
    from premem.output.console import show
    from premem.output.reports import jobs_table
    from premem.payloads.recordings import described
    from premem.wire.calibrations import RecordedRun
    from premem.wire.datasets import Columns

    runs = read_runs(folder)
    if not Path(data).is_file() and ("." in data or "/" in data):
        raise InputError(f"{data}: there is no such file")
    known: dict[str, Any] = {
        "model": model,
        "task": task,
        "grader": {"name": grader},
        "memorized_below": memorized_below_from(memorized_below),
        "calibration": calibration,
    }
    asked(RecordedRun, dataset="not uploaded yet", samples=1, checkpoints=[{"name": "1"}], **known)
    jobs: list[Job] = []
    with Client(service) as client:
        uploaded = send(client, Path(data), columns=Columns()) if Path(data).is_file() else client.dataset(data)
        for run in runs:
            job = client.import_recorded(run, described(run, dataset=uploaded.id, **known))
            jobs.append(client.wait(job.id))
            say(f"{run.name}: {jobs[-1].state}")
            below = jobs[-1].threshold.memorized_below
            doubt = None if below is None else doubtful_subset(run, below)
            if doubt is not None:
                say(f"warning: {doubt}")
    if as_json:
        print_json({"items": [job.model_dump(mode="json") for job in jobs]})
    else:
        show(jobs_table(jobs))
    failed = [job for job in jobs if job.state != "completed"]
    for job in failed:
        say(f"error: {job.name}: {'; '.join(job.errors)}")
    if failed:
        raise typer.Exit(FAILED)
