"""What a notebook, rich and repr() print of the client's results."""

from __future__ import annotations

import io
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from rich.console import Console

import premem.output.display  # noqa: F401
from premem.wire.bodies import Reply
from premem.wire.curation import SelectedExample, Selection, TraitReply
from premem.wire.display import DisplayedReply
from premem.wire.jobs import Job
from tests.premem.steered import REPORT, job_of, lineage_of, page_of, scored

HOSTILE = "<script>alert(1)</script> [bold]x[/bold] \x1b[31m"


class Cells(HTMLParser):
    """The text of a piece of HTML by the tag that it stands in, and every tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: dict[str, list[str]] = {}
        self._tag = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        self._tag = tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._tag, []).append(data)


def terminal(reply: Reply) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(reply)
    return out.getvalue()


def html_of(reply: DisplayedReply) -> Cells:
    html = reply._repr_html_()
    assert html is not None
    return Cells(html)


def selection_of(*rows: int, notes: tuple[str, ...] = ()) -> Selection:
    chosen = [SelectedExample(row=row, id=f"e{row}", score=0.25, mean_accuracy=None) for row in rows]
    control = [SelectedExample(row=100 + row, id=f"e{row}", score=0.75, mean_accuracy=None) for row in rows]
    traits = [TraitReply(name="answer length", chosen=3.0, rest=2.0, effect=0.5)]
    return Selection(
        lineage=lineage_of(below=0.5),
        qualified=9,
        total=len(rows),
        chosen=chosen,
        control=control,
        notes=list(notes),
        traits=traits,
    )


def job_with(checkpoints: int) -> Job:
    job = job_of("running", done=3)
    many = [job.checkpoints[0].model_copy(update={"name": f"checkpoint-{number}"}) for number in range(checkpoints)]
    return job.model_copy(update={"checkpoints": many})


REPLIES = [job_of("running", done=3), REPORT, selection_of(7), page_of(scored(0))]


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
def test_a_notebook_and_a_terminal_show_the_same_lines(reply):
    page, printed = html_of(reply), terminal(reply)

    assert page.tags <= {"div", "p", "table", "thead", "tbody", "tr", "th", "td"}
    assert "table" in page.tags
    for cell in page.texts["td"]:
        assert cell.split()[0] in printed


def test_a_job_shows_its_state_and_how_far_each_checkpoint_is():
    page = html_of(job_of("running", done=3))

    assert page.texts["p"][0] == "job_1: running"
    assert page.texts["p"][1].startswith("3 of 6 examples done")
    assert page.texts["th"] == ["checkpoint", "tasks done", "state", "error"]
    assert page.texts["td"][0] == "checkpoint-5"


def test_a_report_shows_a_line_per_checkpoint():
    page = html_of(REPORT)

    shown = dict(zip(page.texts["th"], page.texts["td"], strict=True))
    assert (shown["train accuracy"], shown["memorized"], shown["test accuracy"]) == ("0.400", "25.0%", "0.350")


def test_a_selection_shows_the_chosen_beside_the_control():
    page = html_of(selection_of(7, notes=("few examples",)))

    assert page.texts["p"][0].startswith("policy lowest: 9 examples qualified, 1 are chosen")
    assert {"7", "107", "0.25", "0.75", "answer length"} <= set(page.texts["td"])
    assert page.texts["p"][-1] == "Note: few examples"


def test_what_is_long_ends_in_how_many_more_there_are():
    job, page = html_of(job_with(1000)), html_of(page_of(*map(scored, range(23))))
    selection = html_of(selection_of(*range(21)))

    assert len(job.texts["td"]) < 20 * 4 + 1
    assert "… and 980 more checkpoints" in job.texts["p"]
    assert "… and 3 more examples on this page" in page.texts["p"]
    assert "… and 1 more chosen rows" in selection.texts["p"]


@pytest.mark.parametrize(
    "reply",
    [
        job_of("failed", errors=[HOSTILE]).model_copy(update={"name": HOSTILE}),
        REPORT.model_copy(update={"warnings": [HOSTILE]}),
        selection_of(7, notes=(HOSTILE,)),
        page_of(scored(0, HOSTILE)),
    ],
    ids=lambda reply: type(reply).__name__,
)
def test_what_people_and_models_wrote_is_shown_as_text(reply):
    page, printed = html_of(reply), terminal(reply)

    assert "script" not in page.tags
    assert "<script>" not in (reply._repr_html_() or "")
    assert r"<script>alert(1)</script> [bold]x[/bold] \x1b[31m" in "".join(page.texts["p"] + page.texts["td"])
    assert "[bold]x[/bold]" in printed
    assert "\x1b[31m" not in printed


@pytest.mark.parametrize(
    "reply",
    [
        job_with(1000).model_copy(update={"name": 5000 * "x"}),
        REPORT.model_copy(update={"checkpoints": 1000 * REPORT.checkpoints, "warnings": 100 * [HOSTILE]}),
        selection_of(*range(1000)),
        page_of(*map(scored, range(1000))),
    ],
    ids=lambda reply: type(reply).__name__,
)
def test_a_repr_is_one_short_line(reply):
    assert len(repr(reply)) < 250
    assert len(str(reply)) < 250
    assert "<list of 1,000>" in repr(reply)
    assert "\n" not in repr(reply)


def test_a_repr_names_what_it_is_of():
    assert repr(job_of("running")) == (
        "Job(id='job_1', kind='score', name='', state='running', dataset='ds_1', checkpoints=<list of 1>)"
    )


def test_a_kind_without_a_table_of_its_own_is_shown_by_its_repr():
    class Other(DisplayedReply):
        repr_fields = ("text",)
        text: str

    other = Other(text="[red]x")

    assert other._repr_html_() is None
    assert terminal(other) == "Other(text='[red]x')\n"


def test_the_client_brings_what_is_shown():
    script = "from premem import Client, Job; from premem.wire.display import as_html; print(as_html.dispatch(Job).__module__)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "premem.output.display"
