"""`premem score`: its options in groups, each of which knows what it asks for.

Typer reads the arguments and options of the command off the fields of ScoreOptions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer

from premem.cli.options import (
    AsJson,
    EngineName,
    FinalAnswer,
    Grader,
    GraderOptions,
    IdColumn,
    MaxUngradable,
    Messages,
    Question,
    RepairLatex,
    Trace,
    asked,
    columns_from,
    memorized_below_from,
    options_from,
    perturbations_from,
    unescaped,
)
from premem.client.checkpoint_order import in_order_of_steps, unique_names
from premem.client.routes.exports import RowsFormat
from premem.errors import InputError
from premem.wire.jobs import Dtype, JobRequest, Sampling, Template, Trajectory

PERTURBED_PANEL = "Perturbed prompts"
SAMPLING_PANEL = "How answers are drawn (the defaults are the paper's)"
MODEL_PANEL = "How the model was trained"
PRIVATE_PANEL = "Without a service"
OUTPUT_PANEL = "What is written"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The run, and what its scores are."""

    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="The training data: a JSONL or Parquet file, hf://org/name?split=train, s3://bucket/key, or a data set's id.",
        ),
    ]
    checkpoints: Annotated[list[str], typer.Argument(metavar="CHECKPOINT", help="Hugging Face folders of one run.")]
    test: Annotated[
        str | None, typer.Option(metavar="FILE", help="Questions that were not trained on, for the test accuracy.")
    ] = None
    memorized_below: Annotated[
        str | None,
        typer.Option(
            metavar="X",
            help="Perplexity under which a reference counts as known by heart, or gsm8k-llama3 or math-llama3. "
            "Absent: a quantile of the first checkpoint's.",
        ),
    ] = None
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Instead: a calibration of the service, which also forecasts the test accuracy."
        ),
    ] = None
    copied_from: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="An answer counts as copied from the reference reasoning where its words are as like it as that.",
        ),
    ] = 0.9
    previous: Annotated[
        str | None,
        typer.Option(
            metavar="JOB",
            help="The job of the round before: the report says what the added examples changed. Needs --service.",
        ),
    ] = None
    keep_order: Annotated[
        bool,
        typer.Option("--keep-order", help="Take the checkpoints as they are given, not by the number of their steps."),
    ] = False

    def ordered(self) -> list[str]:
        """The checkpoints in the order of training."""
        return self.checkpoints if self.keep_order else in_order_of_steps(self.checkpoints)


@dataclass(frozen=True, kw_only=True)
class UploadOptions:
    """How rows are read and graded."""

    grader: Grader = None
    grader_options: GraderOptions = None
    max_ungradable: MaxUngradable = None
    repair_latex: RepairLatex = None
    question: Question = None
    trace: Trace = None
    final_answer: FinalAnswer = None
    id_: IdColumn = None
    messages: Messages = None

    def upload(self) -> dict[str, Any]:
        """What Client.upload takes beside the rows."""
        columns = columns_from(
            question=self.question,
            trace=self.trace,
            final_answer=self.final_answer,
            id_=self.id_,
            messages=self.messages,
        )
        return {
            "columns": columns,
            "grader": self.grader,
            "grader_options": options_from(self.grader_options),
            "max_ungradable": self.max_ungradable,
            "repair_latex": self.repair_latex,
        }


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """What is drawn."""

    samples: Annotated[
        int, typer.Option(help="Answers per example and checkpoint.", rich_help_panel=SAMPLING_PANEL)
    ] = 5
    temperature: Annotated[float, typer.Option(help="0 is greedy.", rich_help_panel=SAMPLING_PANEL)] = 0.8
    top_p: Annotated[float, typer.Option(rich_help_panel=SAMPLING_PANEL)] = 0.95
    max_tokens: Annotated[int, typer.Option(help="Per answer.", rich_help_panel=SAMPLING_PANEL)] = 512
    stop: Annotated[
        list[str] | None,
        typer.Option(
            help=r"An answer ends here; give it once for each. Absent: \nDone.", rich_help_panel=SAMPLING_PANEL
        ),
    ] = None
    seed: Annotated[int, typer.Option(rich_help_panel=SAMPLING_PANEL)] = 0
    trajectory: Annotated[
        Trajectory | None,
        typer.Option(
            help="Draw only what can change the final scores, what the scores at every checkpoint need, or everything. "
            "Absent: everything with --test or --calibration, else final.",
            rich_help_panel=SAMPLING_PANEL,
        ),
    ] = None
    only_below: Annotated[
        bool,
        typer.Option(
            "--only-below",
            help="Draw only what tells whether a score is under --below: fewer answers, and no exact scores.",
            rich_help_panel=SAMPLING_PANEL,
        ),
    ] = False

    def sampling(self) -> Sampling:
        stop: dict[str, Any] = {"stop": [unescaped(text) for text in self.stop]} if self.stop else {}
        return asked(
            Sampling,
            samples=self.samples,
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            seed=self.seed,
            **stop,
        )


@dataclass(frozen=True, kw_only=True)
class PerturbationOptions:
    """Other prompts to hold the accuracy against."""

    answer_prefix: Annotated[
        list[str] | None,
        typer.Option(
            help="Put before the answer, such as ' We know that': what accuracy survives it at the last checkpoint; "
            "give it once for each.",
            rich_help_panel=PERTURBED_PANEL,
        ),
    ] = None
    perturbations: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='Further ones as a JSON list: [{"name": …, "question_prefix" | "question_suffix" | '
            '"question_column" | "answer_prefix": …}].',
            rich_help_panel=PERTURBED_PANEL,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How the model was trained, and so how it is asked."""

    template_prompt: Annotated[
        str | None,
        typer.Option(
            help=r"What the model is asked, \n being a line break. Absent: {question}\nAnswer:",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = None
    template_target: Annotated[
        str | None,
        typer.Option(
            help=r"What it was trained to say, leading space and stop string included. Absent: ' {trace}\nDone.'",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = None
    chat: Annotated[
        bool,
        typer.Option(
            "--chat",
            help="Ask through the chat template of the checkpoints' tokenizer: what the user says is {question}, and what "
            "the assistant says {trace}, unless --template-prompt and --template-target say otherwise.",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = False
    system: Annotated[
        str,
        typer.Option(metavar="TEXT", help="What the system says first, with --chat.", rich_help_panel=MODEL_PANEL),
    ] = ""
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Folder or hub id that LoRA adapters belong to. Absent: what each names itself.",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = None
    dtype: Annotated[
        Dtype | None,
        typer.Option(help="Absent: what the first checkpoint was saved in.", rich_help_panel=MODEL_PANEL),
    ] = None
    task: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="What a calibration is kept for. Absent: the data's name.", rich_help_panel=MODEL_PANEL
        ),
    ] = ""
    learning_rate: Annotated[
        float | None, typer.Option(help="Of the run, for calibrating on it later.", rich_help_panel=MODEL_PANEL)
    ] = None

    def template(self) -> Template:
        given = {"prompt": self.template_prompt, "target": self.template_target}
        texts = {name: unescaped(text) for name, text in given.items() if text is not None}
        return asked(Template, prefix="template-", chat=self.chat, system=unescaped(self.system), **texts)


@dataclass(frozen=True, kw_only=True)
class PlaceOptions:
    """Who does the work."""

    service: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="PREMEM_SERVICE",
            help="A service that has workers. Absent: a private one is started on this machine.",
        ),
    ] = None
    engine: Annotated[
        EngineName | None,
        typer.Option(
            help="Runs the model. Absent: vLLM where it is installed, else transformers.",
            rich_help_panel=PRIVATE_PANEL,
        ),
    ] = None
    workers: Annotated[
        int, typer.Option(min=1, help="Processes, each with a model of its own.", rich_help_panel=PRIVATE_PANEL)
    ] = 1
    hub: Annotated[
        bool,
        typer.Option("--hub", help="Let checkpoints be ids of the Hugging Face hub.", rich_help_panel=PRIVATE_PANEL),
    ] = False


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is written and printed."""

    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the results. Absent: the data's.", rich_help_panel=OUTPUT_PANEL),
    ] = None
    below: Annotated[
        float,
        typer.Option(
            min=0.0, help="Curate what has a pre-memorization accuracy under this.", rich_help_panel=OUTPUT_PANEL
        ),
    ] = 0.5
    budget: Annotated[
        int | None, typer.Option(min=1, help="Curate at most so many rows.", rich_help_panel=OUTPUT_PANEL)
    ] = None
    format_: Annotated[
        RowsFormat, typer.Option("--format", help="Of scores and curated rows.", rich_help_panel=OUTPUT_PANEL)
    ] = "jsonl"
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Score a few examples at the first checkpoint only, and say what all of it will take: tokens, time, memory.",
        ),
    ] = False
    as_json: AsJson = False


# Fields stand in the order of the last base first.
@dataclass(frozen=True, kw_only=True)
class ScoreOptions(
    OutputOptions, PlaceOptions, ModelOptions, PerturbationOptions, SamplingOptions, UploadOptions, RunOptions
):
    """Everything that can be typed after `premem score`."""

    def request(self) -> JobRequest:
        """The job, whose data sets are not yet known. Raises InputError, naming the option that cannot be taken."""
        paths = self.ordered()
        return asked(
            JobRequest,
            dataset="not uploaded yet",
            checkpoints=_checkpoints(paths, here=self.service is None and not self.hub),
            sampling=self.sampling(),
            template=self.template(),
            memorized_below=memorized_below_from(self.memorized_below),
            calibration=self.calibration,
            task=self.task,
            learning_rate=self.learning_rate,
            copied_from=self.copied_from,
            perturbations=perturbations_from(self.answer_prefix or [], self.perturbations),
            previous=self.previous,
            base=str(Path(self.base).resolve()) if self.base and Path(self.base).is_dir() else self.base,
            trajectory=self.trajectory,
            below=self.below if self.only_below else None,
            dtype=self.dtype,
        )


def typed_as(kind: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The command's arguments and options are the fields of a dataclass."""

    def described(function: Callable[..., None]) -> Callable[..., None]:
        function.__signature__ = signature(kind, eval_str=True)  # type: ignore[attr-defined]
        return function

    return described


def _checkpoints(paths: list[str], *, here: bool) -> list[dict[str, str]]:
    """Raises InputError where a folder must be `here` and is not."""
    for path in paths:
        if here and not Path(path).is_dir():
            raise InputError(f"{path}: there is no such checkpoint folder")
    return [
        {"path": str(Path(path).resolve()) if Path(path).is_dir() else path, "name": name}
        for path, name in zip(paths, unique_names(paths), strict=True)
    ]
