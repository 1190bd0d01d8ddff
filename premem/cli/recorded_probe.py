"""`premem recorded-probe`: what a log of a preference run that others made says of its learning dynamics."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from premem.cli.exits import print_json
from premem.cli.options import AsJson
from premem.dynamics.long_format import RecordedProbe
from premem.dynamics.recorded import PerPrompt, RecordedLog, read, read_per_prompt
from premem.errors import InputError
from premem.output.console import say, show
from premem.output.dynamics import families_table, log_text, probe_table, probe_text


def recorded_probe(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="JSONL: a line per text, or per evaluation.")],
    per_prompt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The .npy that the paper's authors keep beside their log, for intervals over prompts."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a recorded log of a preference run says: where chosen, rejected and argmax went.

    LOG is in the long format, a line per checkpoint, row and family with `log_probability`, `tokens` and `argmax`, and
    then gets verdicts; or a `prob_*_metrics.json` of the authors of "Learning Dynamics of LLM Finetuning", which holds
    means only.

    Example: `premem recorded-probe prob_train_metrics.json`
    """
    found = read(log)
    if isinstance(found, RecordedProbe):
        if per_prompt is not None:
            raise InputError(f"{log.name} has a line per prompt already: leave --per-prompt out")
        _show_probe(found, as_json=as_json)
    else:
        _show_log(found, None if per_prompt is None else read_per_prompt(per_prompt, found), as_json=as_json)
    if not as_json:
        for warning in found.warnings():
            say(f"warning: {warning}")


def _show_log(log: RecordedLog, prompts: PerPrompt | None, *, as_json: bool) -> None:
    if as_json:
        print_json(_log_as_json(log, prompts))
        return
    show(families_table(log.series()), log_text(log, log.as_logged(), prompts))


def _log_as_json(log: RecordedLog, prompts: PerPrompt | None) -> dict[str, Any]:
    logged = log.as_logged()
    return {
        "format": "authors",
        "log": log.name,
        "held_out": log.held_out,
        "lines": log.lines,
        "runs": list(log.runs),
        "used_lines": list(log.used_lines),
        "evaluations": log.evaluations,
        "nan_fields": list(log.nan_fields),
        "inf_fields": list(log.inf_fields),
        "missing_fields": list(log.missing_fields),
        "series": {name: asdict(one) for name, one in log.series().items()},
        "argmax_below_chosen_evaluations": log.argmax_below_chosen,
        "argmax_refused": log.argmax_refused,
        "as_logged": None if logged is None else asdict(logged),
        "per_prompt": None
        if prompts is None
        else {
            "argmax_below_chosen_prompts": prompts.argmax_below_chosen,
            "changes": {name: asdict(change) for name, change in prompts.changes.items()},
        },
        "warnings": log.warnings(),
    }


def _show_probe(probe: RecordedProbe, *, as_json: bool) -> None:
    if as_json:
        told = {"format": "long", "log": probe.name, **asdict(probe)}
        told |= {"train_only": probe.train_only(), "best_checkpoint": probe.best_checkpoint()}
        print_json(told | {"advice": [asdict(line) for line in probe.advice()], "warnings": probe.warnings()})
        return
    show(*(probe_table(probe, part) for part in probe.parts), probe_text(probe))
