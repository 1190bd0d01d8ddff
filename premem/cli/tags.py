"""The command that tags examples: tag."""

from __future__ import annotations

from typing import Annotated

import typer

from premem.cli.exits import print_json
from premem.cli.options import AsJson, ServiceUrl
from premem.output.console import say


def add_to(app: typer.Typer, *, panel: str) -> None:
    app.command(rich_help_panel=panel)(tag)


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
    from premem.client.client import Client
    from premem.errors import InputError

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
