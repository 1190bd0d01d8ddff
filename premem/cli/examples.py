"""Commands about single examples: examples, tag."""

from __future__ import annotations

from typing import Annotated, Any, Unpack

import typer

from premem.cli.exits import print_json
from premem.cli.options import AsJson, JobId, ServiceUrl
from premem.client.client import Client
from premem.errors import InputError
from premem.output.choices import example_text, examples_table
from premem.output.console import say, show
from premem.output.reports import threshold_text
from premem.output.text import printable
from premem.wire.examples import ExamplePage, ExampleQuery, Sort

FILTERS, ORDER = "Which ones", "In which order"


def _share(help_: str) -> Any:
    return typer.Option(metavar="T", min=0.0, max=1.0, help=help_, rich_help_panel=FILTERS)


def _perplexity(help_: str) -> Any:
    return typer.Option(metavar="P", min=1.0, help=help_, rich_help_panel=FILTERS)


def _word(help_: str, metavar: str) -> Any:
    return typer.Option(metavar=metavar, help=help_, rich_help_panel=FILTERS)


Above = Annotated[float | None, _share("Pre-memorization accuracy, inclusive.")]
Below = Annotated[float | None, _share("Pre-memorization accuracy, exclusive.")]
IntervalAbove = Annotated[float | None, _share("The lower end of its 90% interval, inclusive.")]
IntervalBelow = Annotated[float | None, _share("The upper end of its 90% interval, exclusive.")]
PerplexityAbove = Annotated[float | None, _perplexity("Of the reference at the last checkpoint, inclusive.")]
PerplexityBelow = Annotated[float | None, _perplexity("The same, exclusive.")]
Memorized = Annotated[
    bool | None,
    typer.Option("--memorized/--not-memorized", help="At some checkpoint, or at none.", rich_help_panel=FILTERS),
]
MemorizedAt = Annotated[str | None, _word("The first checkpoint at which it was.", "NAME")]
Search = Annotated[str | None, _word("Stands in the question, in capitals or not.", "TEXT")]
Tag = Annotated[str | None, _word("Only what has this tag.", "TAG")]
WithoutTag = Annotated[str | None, _word("Only what has not.", "TAG")]
By = Annotated[
    Sort,
    typer.Option(
        "--sort",
        help="rank: by pre-memorization accuracy; perplexity and last_accuracy: at the last checkpoint; interval: how "
        "wide it is. What was not drawn comes last.",
        rich_help_panel=ORDER,
    ),
]
Descending = Annotated[bool, typer.Option("--descending", help="The highest first.", rich_help_panel=ORDER)]


def examples(
    job: JobId,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="How many to list.")] = 20,
    row: Annotated[
        int | None,
        typer.Option(metavar="ROW", min=0, help="Show this row of the data set in full, with every sampled answer."),
    ] = None,
    above: Above = None,
    below: Below = None,
    interval_above: IntervalAbove = None,
    interval_below: IntervalBelow = None,
    perplexity_above: PerplexityAbove = None,
    perplexity_below: PerplexityBelow = None,
    memorized: Memorized = None,
    memorized_at: MemorizedAt = None,
    search: Search = None,
    tag: Tag = None,
    without_tag: WithoutTag = None,
    sort: By = "rank",
    descending: Descending = False,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """List the ranked examples, the lowest pre-memorization accuracy first, or those that are wanted.

    A star marks an accuracy at a checkpoint where the example was memorized, a dash one that was not drawn in full.

    Example: `premem examples job_0123 --below 0.5 --search train --limit 10`, then `premem examples job_0123 --row 17`
    """
    asked = {
        "above": above,
        "below": below,
        "interval_above": interval_above,
        "interval_below": interval_below,
        "perplexity_above": perplexity_above,
        "perplexity_below": perplexity_below,
        "memorized": memorized,
        "memorized_at": memorized_at,
        "search": search,
        "tag": tag,
        "without_tag": without_tag,
        "sort": None if sort == "rank" else sort,
        "order": "descending" if descending else None,
    }
    wanted: Any = {name: value for name, value in asked.items() if value is not None}
    if row is not None and wanted:
        raise InputError("--row shows one example, whatever its place: leave the filters and --sort away")
    with Client(service) as client:
        if row is not None:
            example = client.example(job, row)
            if as_json:
                print_json(example)
            else:
                show(example_text(example), threshold_text(example.threshold))
            return
        page = first_examples(client, job, limit, **wanted)
    if as_json:
        print_json(page)
        return
    names = printable(", ".join(page.checkpoints))
    show(
        examples_table(page),
        f"{len(page.items):,} of {page.total:,}; checkpoints in order: {names}",
        threshold_text(page.threshold),
    )


def first_examples(client: Client, job: str, limit: int, **wanted: Unpack[ExampleQuery]) -> ExamplePage:
    """The first `limit` of what is wanted as one page, however long the service's pages are."""
    page = client.examples(job, limit=min(limit, 100), **wanted)
    while len(page.items) < limit and page.next_cursor:
        more = min(limit - len(page.items), 100)
        following = client.examples(job, limit=more, cursor=page.next_cursor, **wanted)
        page = following.model_copy(update={"items": page.items + following.items})
    return page


def tag(
    of: Annotated[str, typer.Argument(metavar="DATASET|JOB", help="Id of the data set, or of a job over it.")],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[TAG]", help="Lower case. Absent: the tags are listed. No choice returns what is excluded."
        ),
    ] = None,
    rows: Annotated[
        list[int] | None, typer.Argument(metavar="[ROW]...", help="From 0. Absent: the rows that have it are listed.")
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take the tag off the rows instead; off all without any.")
    ] = False,
    service: ServiceUrl = None,
    as_json: AsJson = False,
) -> None:
    """Tag examples by their row; what is tagged `excluded` is left out of every choice.

    Tags belong to the data set: every job over the same rows has them.

    Example: `premem tag job_0123 excluded 17 42`
    """
    if remove and name is None:
        raise InputError("--remove: name the tag that is to be taken off")
    with Client(service) as client:
        dataset = client.job(of).dataset if of.startswith("job_") else of
        if name is not None and remove and not rows:
            client.delete_tag(dataset, name)
        elif name is not None and rows:
            (client.untag_rows if remove else client.tag_rows)(dataset, name, rows)
        elif name is not None:
            found = list(client.tagged_rows(dataset, name))
            print_json({"tag": name, "rows": found}) if as_json else print("\n".join(map(str, found)))
            return
        counts = client.tags(dataset)
    if as_json:
        print_json({"items": [one.model_dump(mode="json") for one in counts]})
        return
    for one in counts:
        print(f"{one.tag}  {one.rows:,} rows")
    if not counts:
        say(f"nothing in {dataset} is tagged")
