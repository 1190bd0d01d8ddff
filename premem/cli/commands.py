"""The commands by name, each imported when it is called: help, and every command but one, cost nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

SCORING = "Score a run"
SERVICE = "A service that stays up"
CURATION = "Choose what to train on next"
CALIBRATION = "Calibration"
DYNAMICS = "Learning dynamics"
GRADING = "Grading"
PASSED_ON: Mapping[str, Any] = {
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    "add_help_option": False,
}
"""Programs read their own flags, --help among them."""


@dataclass(frozen=True, slots=True)
class Command:
    """A function of the same name, - being _, in one of the modules beside this one."""

    name: str
    module: str
    panel: str
    help: str
    """The first line of its docstring, which `premem --help` shows without importing it; a test holds them equal."""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def function(self) -> Any:
        return getattr(import_module(f"premem.cli.{self.module}"), self.name.replace("-", "_"))

    def loaded(self) -> Any:
        """As typer makes it of the function: with every argument and option."""
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
        alone.command(self.name, rich_help_panel=self.panel, **self.settings)(self.function())
        return typer.main.get_command(alone)

    def list_in(self, app: typer.Typer) -> None:
        """By name and help alone."""
        app.command(self.name, help=self.help, rich_help_panel=self.panel)(lambda: None)


COMMANDS = {
    command.name: command
    for command in (
        Command(
            "score",
            "score",
            SCORING,
            "Score every checkpoint of a finetuning run on its own training data, and rank the examples.",
        ),
        Command("serve", "programs", SERVICE, "Start the service on this machine.", PASSED_ON),
        Command(
            "worker", "programs", SERVICE, "Work for a service: sample and score on this machine's GPU.", PASSED_ON
        ),
        Command("upload", "jobs", SERVICE, "Send a data set to the service."),
        Command("status", "jobs", SERVICE, "Say how far a job is."),
        Command(
            "workers",
            "jobs",
            SERVICE,
            "List the workers that are connected: who asked for a task within the last minute, or has one in hand.",
        ),
        Command("cancel", "jobs", SERVICE, "Stop a job. What its workers have in hand is dropped."),
        Command("report", "jobs", SERVICE, "Print a job's accuracies, checkpoint by checkpoint."),
        Command(
            "examples",
            "examples",
            SERVICE,
            "List the ranked examples, the lowest pre-memorization accuracy first, or those that are wanted.",
        ),
        Command("regrade", "jobs", SERVICE, "Grade a completed job's answers with another grader."),
        Command("resample", "jobs", SERVICE, "Draw more answers for a completed job."),
        Command("select", "curation", CURATION, "Show which examples a policy chooses, and what they have in common."),
        Command(
            "overlap",
            "curation",
            CURATION,
            "Show how many examples two policies both choose, and how many only the one or the other.",
        ),
        Command(
            "curate",
            "curation",
            CURATION,
            "Write the rows that the model could not solve before it memorized them, or those that another policy chooses.",
        ),
        Command(
            "weights", "curation", CURATION, "Write a sampling weight for every row of the data set, in its order."
        ),
        Command(
            "seeds",
            "curation",
            CURATION,
            "Write requests for new examples like the low ones, for an OpenAI-compatible batch endpoint.",
        ),
        Command("acquire", "curation", CURATION, "Find the examples of a pool that are most like the low ones."),
        Command(
            "tag",
            "examples",
            CURATION,
            "Tag examples by their row; what is tagged `excluded` is left out of every choice.",
        ),
        Command(
            "recorded",
            "calibrations",
            CALIBRATION,
            "Recompute the metric on runs in the layout that its authors published, and how well it forecasts.",
        ),
        Command(
            "calibrate",
            "calibrations",
            CALIBRATION,
            "Find the threshold that best explains several jobs, and keep it under a name.",
        ),
        Command("calibrations", "calibrations", CALIBRATION, "List the calibrations of a service, or show one."),
        Command("import-recorded", "calibrations", CALIBRATION, "Bring recorded runs into a service as finished jobs."),
        Command(
            "recorded-probe",
            "recorded_probe",
            DYNAMICS,
            "Show what a recorded log of a preference run says: where chosen, rejected and argmax went.",
        ),
        Command("grade", "grade", GRADING, "Grade answers, from stdin to stdout."),
    )
}


class LazyGroup(TyperGroup):
    """Lists the commands as they stand above, and loads the one that is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, COMMANDS[name].loaded() if name and listed else listed, rest
