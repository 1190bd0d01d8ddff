"""A curated subset as a folder that `datasets.load_dataset` reads, and where it comes from.

README.md is the card that the Hugging Face hub shows, data/train.parquet the rows, lineage.json all that they follow from.
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack
from uuid import uuid4

from premem.errors import InputError

if TYPE_CHECKING:
    from premem.client import Client
    from premem.wire_curation import Choice, Group


def lineage(client: Client, job: str, *, group: Group = "chosen", **choice: Unpack[Choice]) -> dict[str, Any]:
    """Data set, run, settings, choice and versions: the same again gives the same rows. Raises Conflict until completed."""
    about, report, selection = client.job(job), client.report(job), client.selection(job, **choice)
    dataset = client.dataset(about.dataset)
    kept = {"id", "name", "kind", "parent", "trajectory", "below", "sampling", "template", "grader", "dtype"}
    return {
        "made_by": f"premem {version('premem')}",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "choice": {**selection.lineage.model_dump(mode="json"), "group": group},
        "qualified": selection.qualified,
        "dataset": {"id": dataset.id, "name": dataset.name, "rows": dataset.rows},
        "job": {
            **about.model_dump(mode="json", include=kept),
            "checkpoints": [{"name": one.name, "path": one.path} for one in about.checkpoints],
        },
        "produced_by": report.produced_by,
        "order": report.tie_order,
        "notes": selection.notes,
    }


def export_folder(client: Client, job: str, folder: Path, *, group: Group = "chosen", **choice: Unpack[Choice]) -> int:
    """Write the folder, whole or not at all. Returns the number of rows.

    Raises InputError where the folder is there already, Conflict until the job is completed.
    """
    if folder.exists():
        raise InputError(f"{folder} is there already: name another folder, or remove it")
    told = lineage(client, job, group=group, **choice)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}-{uuid4().hex}")
    try:
        (unfinished / "data").mkdir(parents=True)
        rows = client.curated(job, unfinished / "data" / "train.parquet", group=group, format="parquet", **choice)
        (unfinished / "lineage.json").write_text(json.dumps(told, indent=2) + "\n")
        (unfinished / "README.md").write_text(card(told, rows=rows))
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return rows


def card(told: dict[str, Any], *, rows: int) -> str:
    """The data card: what was chosen, out of what, and how."""
    choice, job = told["choice"], told["job"]
    threshold = choice["threshold"]
    sampling = job["sampling"]
    which = {
        "lowest": f"those with a pre-memorization accuracy under {choice['below']:g}, the lowest first",
        "band": f"those with a pre-memorization accuracy from {choice['above']:g} up to {choice['below']:g}",
        "variance": "those on which the model is least settled first",
        "mean": f"those with a mean accuracy under {choice['below']:g}, the lowest first",
        "random": "drawn at random",
    }[choice["policy"]]
    if choice["group"] == "control":
        which = f"as many as the policy {choice['policy']!r} chooses, drawn at random to compare with"
    front = [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path: data/train.parquet",
    ]
    front += ["tags:", "- premem", "- curated", "size_categories:", f"- {_size(rows)}", "---"]
    produced = told["produced_by"]
    lines = [
        "",
        f"# {_plain(told['dataset']['name'])}, curated",
        "",
        f"{rows:,} of {told['dataset']['rows']:,} rows: {which}. Each is as it was uploaded, in the order of the ranking, with its "
        "scores in the column `premem`.",
        "",
        "| | |",
        "| --- | --- |",
        f"| data set | `{told['dataset']['id']}`, the hash of its content |",
        f"| job | `{job['id']}`, trajectory {job['trajectory']} |",
        f"| policy | {choice['policy']}, below {choice['below']:g}, above {choice['above']:g}, budget {choice['budget']}, "
        f"seed {choice['seed']}, group {choice['group']} |",
        f"| memorized below | perplexity {threshold['memorized_below']:.4f}: {_plain(threshold['source'])} |",
        f"| sampling | {sampling['samples']} answers, temperature {sampling['temperature']:g}, top_p {sampling['top_p']:g}, seed "
        f"{sampling['seed']} |",
        f"| grader | {_plain(job['grader']['name'])} |",
        f"| checkpoints | {', '.join(_plain(one['name']) for one in job['checkpoints'])} |",
        f"| scored by | {_plain(produced.get('engine', ''))}, {_plain(produced.get('versions', ''))}, {produced.get('dtype', '')} |",
        f"| made by | {told['made_by']}, {told['made_at']} |",
        "",
        "Pre-memorization accuracy is the best accuracy at any checkpoint where the reference was not yet known by heart, capped "
        "by the accuracy now (Kang et al., arXiv 2411.07681). `lineage.json` holds every setting.",
    ]
    lines += [f"\n- {_plain(note)}" for note in told["notes"]]
    return "\n".join([*front, *lines]) + "\n"


def _plain(text: str) -> str:
    """Names are data: in a table they are no markup."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


def _size(rows: int) -> str:
    for most, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if rows < most:
            return name
    return "1M<n<10M"
