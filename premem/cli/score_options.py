"""`premem score`: its options, and what they ask for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from premem.cli.options import (
    AsJson,
    Dtype,
    EngineName,
    FinalAnswer,
    Grader,
    GraderOptions,
    IdColumn,
    MaxUngradable,
    Messages,
    Question,
    RepairLatex,
    RowsFormat,
    Trace,
    Trajectory,
    asked,
    columns_from,
    memorized_below_from,
    options_from,
    perturbations_from,
    unescaped,
)
from premem.cli.score import Scoring, score_privately, score_with
from premem.output.console import say

PERTURBED_PANEL = "Perturbed prompts"
SAMPLING_PANEL = "How answers are drawn (the defaults are the paper's)"
MODEL_PANEL = "How the model was trained"
PRIVATE_PANEL = "Without a service"
OUTPUT_PANEL = "What is written"


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="Score a run")(score)


def score(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="The training data: a JSONL or Parquet file, hf://org/name?split=train, s3://bucket/key, or a data set's id.",
        ),
    ],
    checkpoints: Annotated[list[str], typer.Argument(metavar="CHECKPOINT", help="Hugging Face folders of one run.")],
    test: Annotated[
        str | None, typer.Option(metavar="FILE", help="Questions that were not trained on, for the test accuracy.")
    ] = None,
    memorized_below: Annotated[
        str | None,
        typer.Option(
            metavar="X",
            help="Perplexity under which a reference counts as known by heart, or gsm8k-llama3 or math-llama3. "
            "Absent: a quantile of the first checkpoint's.",
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Instead: a calibration of the service, which also forecasts the test accuracy."
        ),
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="What a calibration is kept for. Absent: the data's name.", rich_help_panel=MODEL_PANEL
        ),
    ] = "",
    learning_rate: Annotated[
        float | None, typer.Option(help="Of the run, for calibrating on it later.", rich_help_panel=MODEL_PANEL)
    ] = None,
    copied_from: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="An answer counts as copied from the reference reasoning where its words are as like it as that.",
        ),
    ] = 0.9,
    answer_prefix: Annotated[
        list[str] | None,
        typer.Option(
            help="Put before the answer, such as ' We know that': what accuracy survives it at the last checkpoint; "
            "give it once for each.",
            rich_help_panel=PERTURBED_PANEL,
        ),
    ] = None,
    perturbations: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='Further ones as a JSON list: [{"name": …, "question_prefix" | "question_suffix" | '
            '"question_column" | "answer_prefix": …}].',
            rich_help_panel=PERTURBED_PANEL,
        ),
    ] = None,
    previous: Annotated[
        str | None,
        typer.Option(
            metavar="JOB",
            help="The job of the round before: the report says what the added examples changed. Needs --service.",
        ),
    ] = None,
    keep_order: Annotated[
        bool,
        typer.Option("--keep-order", help="Take the checkpoints as they are given, not by the number of their steps."),
    ] = False,
    grader: Grader = None,
    grader_options: GraderOptions = None,
    max_ungradable: MaxUngradable = None,
    repair_latex: RepairLatex = None,
    question: Question = None,
    trace: Trace = None,
    final_answer: FinalAnswer = None,
    id_: IdColumn = None,
    messages: Messages = None,
    samples: Annotated[
        int, typer.Option(help="Answers per example and checkpoint.", rich_help_panel=SAMPLING_PANEL)
    ] = 5,
    temperature: Annotated[float, typer.Option(help="0 is greedy.", rich_help_panel=SAMPLING_PANEL)] = 0.8,
    top_p: Annotated[float, typer.Option(rich_help_panel=SAMPLING_PANEL)] = 0.95,
    max_tokens: Annotated[int, typer.Option(help="Per answer.", rich_help_panel=SAMPLING_PANEL)] = 512,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            help=r"An answer ends here; give it once for each. Absent: \nDone.", rich_help_panel=SAMPLING_PANEL
        ),
    ] = None,
    seed: Annotated[int, typer.Option(rich_help_panel=SAMPLING_PANEL)] = 0,
    trajectory: Annotated[
        Trajectory | None,
        typer.Option(
            help="Draw only what can change the final scores, what the scores at every checkpoint need, or everything. "
            "Absent: everything with --test or --calibration, else final.",
            rich_help_panel=SAMPLING_PANEL,
        ),
    ] = None,
    only_below: Annotated[
        bool,
        typer.Option(
            "--only-below",
            help="Draw only what tells whether a score is under --below: fewer answers, and no exact scores.",
            rich_help_panel=SAMPLING_PANEL,
        ),
    ] = False,
    template_prompt: Annotated[
        str | None,
        typer.Option(
            help=r"What the model is asked, \n being a line break. Absent: {question}\nAnswer:",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = None,
    template_target: Annotated[
        str | None,
        typer.Option(
            help=r"What it was trained to say, leading space and stop string included. Absent: ' {trace}\nDone.'",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = None,
    chat: Annotated[
        bool,
        typer.Option(
            "--chat",
            help="Ask through the chat template of the checkpoints' tokenizer: what the user says is {question}, and what "
            "the assistant says {trace}, unless --template-prompt and --template-target say otherwise.",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = False,
    system: Annotated[
        str,
        typer.Option(metavar="TEXT", help="What the system says first, with --chat.", rich_help_panel=MODEL_PANEL),
    ] = "",
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Folder or hub id that LoRA adapters belong to. Absent: what each names itself.",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = None,
    dtype: Annotated[
        Dtype | None,
        typer.Option(help="Absent: what the first checkpoint was saved in.", rich_help_panel=MODEL_PANEL),
    ] = None,
    service: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="PREMEM_SERVICE",
            help="A service that has workers. Absent: a private one is started on this machine.",
        ),
    ] = None,
    engine: Annotated[
        EngineName | None,
        typer.Option(
            help="Runs the model. Absent: vLLM where it is installed, else transformers.",
            rich_help_panel=PRIVATE_PANEL,
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes, each with a model of its own.", rich_help_panel=PRIVATE_PANEL)
    ] = 1,
    hub: Annotated[
        bool,
        typer.Option("--hub", help="Let checkpoints be ids of the Hugging Face hub.", rich_help_panel=PRIVATE_PANEL),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the results. Absent: the data's.", rich_help_panel=OUTPUT_PANEL),
    ] = None,
    below: Annotated[
        float,
        typer.Option(
            min=0.0, help="Curate what has a pre-memorization accuracy under this.", rich_help_panel=OUTPUT_PANEL
        ),
    ] = 0.5,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Curate at most so many rows.", rich_help_panel=OUTPUT_PANEL)
    ] = None,
    format_: Annotated[
        RowsFormat, typer.Option("--format", help="Of scores and curated rows.", rich_help_panel=OUTPUT_PANEL)
    ] = RowsFormat.jsonl,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Score a few examples at the first checkpoint only, and say what all of it will take: tokens, time, memory.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    r"""Score every checkpoint of a finetuning run on its own training data, and rank the examples.

    Written beside the data: NAME.scores.jsonl (every example), NAME.curated.jsonl (those that the model could not solve
    before it memorized them) and NAME.report.json. Without --service, a private service and worker run on this machine
    until it is done and keep what they know in NAME.premem: run the same command again to go on after an interruption.

    Example: `premem score train.jsonl out/checkpoint-* --test test.jsonl --grader gsm8k`
    """
    from premem.client.sources import is_source
    from premem.wire.jobs import JobRequest, Sampling, Template

    grading = options_from(grader_options)
    sampling: dict[str, Any] = {"stop": [unescaped(text) for text in stop]} if stop else {}
    template: dict[str, Any] = {"chat": chat, "system": unescaped(system)}
    if template_prompt is not None:
        template["prompt"] = unescaped(template_prompt)
    if template_target is not None:
        template["target"] = unescaped(template_target)
    ordered = _in_order(checkpoints, keep=keep_order)
    request = asked(
        JobRequest,
        dataset="not uploaded yet",
        checkpoints=_checkpoints(ordered, here=service is None and not hub),
        sampling=asked(
            Sampling,
            samples=samples,
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            seed=seed,
            **sampling,
        ),
        template=asked(Template, prefix="template-", **template),
        memorized_below=memorized_below_from(memorized_below),
        calibration=calibration,
        task=task,
        learning_rate=learning_rate,
        copied_from=copied_from,
        perturbations=perturbations_from(answer_prefix or [], perturbations),
        previous=previous,
        base=str(Path(base).resolve()) if base and Path(base).is_dir() else base,
        trajectory=trajectory.value if trajectory else None,
        below=below if only_below else None,
        dtype=dtype.value if dtype else None,
    )
    scoring = Scoring(
        data=data,
        test=test,
        request=request,
        upload={
            "columns": columns_from(
                question=question, trace=trace, final_answer=final_answer, id_=id_, messages=messages
            ),
            "grader": grader,
            "grader_options": grading,
            "max_ungradable": max_ungradable,
            "repair_latex": repair_latex,
        },
        folder=out or (Path() if is_source(data) else Path(data).parent),
        stem=_stem(data),
        below=below,
        budget=budget,
        format=format_,
        dry_run=dry_run,
    )
    _check_files(scoring, private=service is None)
    if service is None:
        from premem.local import check_worker_is_installed

        check_worker_is_installed()
        score_privately(scoring, engine=engine.value if engine else None, workers=workers, hub=hub, as_json=as_json)
    else:
        score_with(service, scoring, as_json=as_json)


def _in_order(checkpoints: list[str], *, keep: bool) -> list[str]:
    """The order of training; said where it is not the one that was given."""
    from premem.client.checkpoint_order import in_order_of_steps

    ordered = checkpoints if keep else in_order_of_steps(checkpoints)
    if ordered != checkpoints:
        say(f"checkpoints in the order of their steps: {', '.join(Path(path).name for path in ordered)}")
    return ordered


def _checkpoints(paths: list[str], *, here: bool) -> list[dict[str, str]]:
    """Raises InputError where a folder must be `here` and is not."""
    from premem.client.checkpoint_order import unique_names
    from premem.errors import InputError

    for path in paths:
        if here and not Path(path).is_dir():
            raise InputError(f"{path}: there is no such checkpoint folder")
    return [
        {"path": str(Path(path).resolve()) if Path(path).is_dir() else path, "name": name}
        for path, name in zip(paths, unique_names(paths), strict=True)
    ]


def _stem(data: str) -> str:
    from premem.client.sources import is_source, source

    name = source(data).name if is_source(data) else Path(data).name
    for ending in (".gz", ".zst", ".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".csv"):
        name = name.removesuffix(ending)
    return name or Path(data).name


def _check_files(scoring: Scoring, *, private: bool) -> None:
    from premem.client.sources import is_source
    from premem.errors import InputError

    away = is_source(scoring.data)
    if not away and not Path(scoring.data).is_file() and (private or os.sep in scoring.data or "." in scoring.data):
        raise InputError(f"{scoring.data}: there is no such file")
    if scoring.test and not is_source(scoring.test) and not Path(scoring.test).is_file():
        raise InputError(f"{scoring.test}: there is no such file")
    scoring.folder.mkdir(parents=True, exist_ok=True)
