"""Commands that choose among the scored examples: select, overlap, curate, weights, seeds, acquire."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from premem.cli.exits import FAILED, print_json
from premem.cli.jobs import watched
from premem.cli.options import AsJson, CuratedFormat, JobId, ServiceUrl, asked
from premem.client.client import Client
from premem.client.folders import write_beside
from premem.client.routes.exports import RowsFormat
from premem.curation.policies import PolicyName
from premem.errors import InputError
from premem.files import whole_file
from premem.output.choices import acquisition_lines, overlap_lines, selection_lines
from premem.output.console import say, show
from premem.wire.curation import AcquireRequest, Acquisition, By, Choice, Group
from premem.wire.jobs import Job

Policy = Annotated[
    PolicyName,
    typer.Option(
        help="lowest: pre-memorization accuracy under --below, lowest first; band: from --above up to --below; variance: "
        "the least settled first, by s(1 - s); mean: accuracy over all checkpoints under --below; random: a draw."
    ),
]
Below = Annotated[float, typer.Option(metavar="T", min=0.0, max=1.0, help="Exclusive.")]
Above = Annotated[float, typer.Option(metavar="T", min=0.0, max=1.0, help="Inclusive; for --policy band.")]
OtherPolicy = Annotated[PolicyName, typer.Option(help="The second policy, chosen among as by --policy.")]
Budget = Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many, the best first.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the random control, and of --policy random.")]
Format = Annotated[RowsFormat | None, typer.Option("--format", help="Absent: as the file's name says, else JSONL.")]
SHOWN = 10


def select(
    job: JobId,
    policy: Policy = "lowest",
    below: Below = 0.5,
    above: Above = 0.0,
    budget: Budget = None,
    seed: Seed = 0,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show which examples a policy chooses, and what they have in common.

    Beside them stands a random control of the same size. Nothing is written; `premem curate` takes the same options.

    Example: `premem select job_0123 --policy band --above 0.2 --below 0.8 --budget 500`
    """
    with Client(service) as client:
        found = client.selection(job, **_choice(policy, below, above, budget, seed))
    if as_json:
        print_json(found)
    else:
        show(*selection_lines(found, most=SHOWN))


def overlap(
    job: JobId,
    policy: Policy = "lowest",
    below: Below = 0.5,
    above: Above = 0.0,
    budget: Budget = None,
    seed: Seed = 0,
    other_policy: OtherPolicy = "lowest",
    other_below: Below = 0.5,
    other_above: Above = 0.0,
    other_budget: Budget = None,
    other_seed: Seed = 0,
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, max=1000, help="How many rows of each part to list.")
    ] = SHOWN,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show how many examples two policies both choose, and how many only the one or the other.

    They are counted over all that there are. What is named --other-… is the second policy's.

    Example: `premem overlap job_0123 --budget 500 --other-policy band --other-above 0.2 --other-below 0.8`
    """
    one = _choice(policy, below, above, budget, seed)
    other = _choice(other_policy, other_below, other_above, other_budget, other_seed)
    with Client(service) as client:
        found = client.overlap(job, one, other, limit=limit)
    if as_json:
        print_json(found)
    else:
        show(*overlap_lines(found))


def curate(
    job: JobId,
    policy: Policy = "lowest",
    below: Below = 0.5,
    above: Above = 0.0,
    budget: Budget = None,
    seed: Seed = 0,
    control: Annotated[
        bool, typer.Option("--control", help="Write the random control of the same size instead, to compare with.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="FILE", help="Absent: curated.jsonl; - is stdout; a folder for --format folder."
        ),
    ] = None,
    format_: Annotated[
        CuratedFormat | None,
        typer.Option(
            "--format",
            help="folder: Parquet with a data card, for datasets.load_dataset. Absent: as the file's name says, else JSONL.",
        ),
    ] = None,
    weights: Annotated[
        bool,
        typer.Option("--weights", help="With --format folder: a sampling weight for every row of the data set, too."),
    ] = False,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write the rows that the model could not solve before it memorized them, or those that another policy chooses.

    Each row comes back as it was uploaded, the best first, with its scores added as `premem`. What the choice follows from
    is written, too: beside a file as FILE.lineage.json, into Parquet's metadata, and into a folder's data card.

    Example: `premem curate job_0123 --below 0.5 --budget 100 -o curated.jsonl`
    """
    choice, group = _choice(policy, below, above, budget, seed), _group(control)
    if weights and format_ != "folder":
        raise InputError("--weights goes with --format folder; premem weights writes them by themselves")
    if format_ == "folder":
        out = out or Path("curated")
        if str(out) == "-":
            raise InputError("-o -: a folder cannot go to stdout; name one")
        with Client(service) as client:
            rows = client.curated_folder(job, out, group=group, weights=weights, **choice)
    else:
        kind = _format(format_, out)
        out = out or Path(f"curated.{kind}")
        with Client(service) as client:
            rows = client.curated(job, _target(out), group=group, format=kind, **choice)
            if str(out) != "-":
                write_beside(out, client.curated_lineage(job, group=group, **choice))
    _say_written(rows, out, as_json=as_json)


def _group(control: bool) -> Group:
    return "control" if control else "chosen"


def weights(
    job: JobId,
    floor: Annotated[float, typer.Option(metavar="W", help="The least that 1 - score counts as.")] = 0.1,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Absent: weights.jsonl; - is stdout.")
    ] = None,
    format_: Format = None,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write a sampling weight for every row of the data set, in its order.

    They sum to 1 and favour what the model could not solve: for a WeightedRandomSampler. What they follow from is
    written, too: beside the file as FILE.lineage.json, and into Parquet's metadata.

    Example: `premem weights job_0123 -o weights.parquet`
    """
    kind = _format(format_, out)
    out = out or Path(f"weights.{kind}")
    with Client(service) as client:
        rows = client.weights(job, _target(out), floor=floor, format=kind)
        if str(out) != "-":
            write_beside(out, client.weights_lineage(job, floor=floor))
    _say_written(rows, out, as_json=as_json)


def seeds(
    job: JobId,
    model: Annotated[str, typer.Option(metavar="NAME", help="Writes the new examples.")],
    requests: Annotated[int, typer.Option(metavar="N", min=1, help="Dealt out by 1 - score among the chosen.")] = 100,
    instruction: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The system's message. Absent: premem's own.")
    ] = None,
    policy: Policy = "lowest",
    below: Below = 0.5,
    above: Above = 0.0,
    budget: Budget = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Absent: seeds.jsonl; - is stdout.")
    ] = None,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write requests for new examples like the low ones, for an OpenAI-compatible batch endpoint.

    Example: `premem seeds job_0123 --model some-model --requests 500 -o seeds.jsonl`
    """
    out = out or Path("seeds.jsonl")
    with Client(service) as client:
        choice = _choice(policy, below, above, budget, seed)
        rows = client.seeds(job, _target(out), model=model, requests=requests, instruction=instruction, **choice)
    _say_written(rows, out, as_json=as_json)


def acquire(
    job: JobId,
    pool: Annotated[str, typer.Option(metavar="DATASET", help="Id of an uploaded data set that was never trained on.")],
    budget: Annotated[int, typer.Option(metavar="N", min=1, help="How many candidates.")] = 100,
    by: Annotated[
        By,
        typer.Option(
            help="What makes questions alike: their words, or what the run's last checkpoint makes of them, for which a "
            "worker is needed."
        ),
    ] = "tfidf",
    policy: Policy = "lowest",
    below: Below = 0.5,
    above: Above = 0.0,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="JSONL: the candidates as they were uploaded. - is stdout."),
    ] = None,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """Find the examples of a pool that are most like the low ones.

    Each comes with the low example that it is nearest to. Rows whose question was trained on are left out.

    Example: `premem acquire job_0123 --pool ds_0456 --budget 500 -o more.jsonl`
    """
    request = asked(AcquireRequest, pool=pool, budget=budget, by=by, policy=policy, below=below, above=above, seed=seed)
    with Client(service) as client:
        answer = client.acquire(job, request)
        found = _candidates(client, answer) if isinstance(answer, Job) else answer
    if out is not None:
        _write_candidates(found, out)
        _say_written(len(found.candidates), out, as_json=as_json)
    elif as_json:
        print_json(found)
    else:
        show(*acquisition_lines(found, most=SHOWN))


def _candidates(client: Client, posted: Job) -> Acquisition:
    """Of a job, once it has ended, its progress shown until then."""
    ended = watched(client, posted.id, doing="embedding")
    if ended.state != "completed":
        say(f"{ended.id} {ended.state}: {'; '.join(ended.errors) or 'no reason is known'}")
        raise typer.Exit(FAILED)
    return client.candidates(ended.id)


def _choice(policy: PolicyName, below: float, above: float, budget: int | None, seed: int) -> Choice:
    return {"policy": policy, "below": below, "above": above, "budget": budget, "seed": seed}


def _format(given: RowsFormat | None, out: Path | None) -> RowsFormat:
    return given or ("parquet" if out and out.suffix == ".parquet" else "jsonl")


def _target(out: Path) -> Any:
    """A path, or stdout for -. Raises InputError where that is a terminal."""
    if str(out) != "-":
        return out
    if sys.stdout.isatty():
        raise InputError("-o -: rows are not shown on a terminal; send them to a file or through a pipe")
    return sys.stdout.buffer


def _say_written(rows: int, out: Path, *, as_json: bool) -> None:
    if str(out) == "-":
        return
    if as_json:
        print_json({"rows": rows, "file": str(out)})
    else:
        say(f"{rows:,} rows written to {out}")


def _write_candidates(found: Acquisition, out: Path) -> None:
    target = _target(out)
    lines = [
        json.dumps(
            {
                **candidate.columns,
                "premem": {
                    "row": candidate.row,
                    "likeness": candidate.likeness,
                    "similarity": candidate.similarity,
                    "nearest": candidate.nearest.model_dump(mode="json"),
                },
            }
        )
        for candidate in found.candidates
    ]
    content = "".join(line + "\n" for line in lines).encode()
    if target is not out:
        target.write(content)
        return
    with whole_file(out) as file:
        file.write(content)
