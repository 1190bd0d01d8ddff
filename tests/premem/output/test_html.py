"""A job's report as one file that can be mailed: what the API says, and nothing that runs or calls home."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from premem.output.html import page
from premem.wire.bodies import GraderChoice
from premem.wire.jobs import Sampling, Template
from premem.wire.lineage import CheckpointLineage, ExportLineage
from tests.premem.steered import REPORT, detail_of, job_of

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)> \u202eabc\x1b[31m &amp; \ud800"
LINEAGE = ExportLineage(
    job="job_1",
    dataset="ds_1",
    policy="lowest",
    below=0.5,
    above=0.0,
    budget=None,
    seed=0,
    threshold=REPORT.threshold,
    group="chosen",
    rows=2,
    qualified=2,
    excluded=0,
    notes=[],
    dataset_name="sums",
    dataset_rows=1_234,
    test_dataset="ds_2",
    kind="regrade",
    parent="job_0",
    previous=None,
    recorded=False,
    checkpoints=[CheckpointLineage(name=HOSTILE, path="/runs/checkpoint-5")],
    sampling=Sampling(),
    template=Template(prompt="Q: {question}\n"),
    grader=GraderChoice(),
    trajectory="final",
    only_below=None,
    calibration=None,
    tie_order=[],
    produced_by={"engine": "vllm 9"},
    finished_at=None,
    premem="1.2.3",
)


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def seen() -> Seen:
    job = job_of("completed", done=6).model_copy(update={"name": HOSTILE})
    example = detail_of("an answer").model_copy(update={"question": HOSTILE, "trace": HOSTILE + "x" * 100_000})
    seen = Seen()
    seen.feed(page(job, REPORT, np.array([0.0, 0.2, 1.0]), [example], LINEAGE))
    return seen


def test_the_file_holds_the_numbers_of_the_report(seen: Seen):
    text = " ".join(seen.text)

    for line in REPORT.checkpoints:
        assert line.checkpoint in text
        assert f"{line.pre_memorization_accuracy:.3f}" in text
    assert "0.400" in text  # the mean of the three scores
    assert seen.tags.count("polyline") >= 2
    assert seen.tags.count("rect") == 20


def test_its_foot_says_what_the_scores_follow_from(seen: Seen):
    foot = " ".join(seen.text).partition("What this rests on")[2]

    for told in ("job_1 (regrade), of job_0", "sums (ds_1), 1,234 rows", "ds_2", "(/runs/checkpoint-5)", "1.2.3"):
        assert told in foot
    assert r"prompt 'Q: {question}\n'" in foot


def test_what_people_wrote_is_text_and_nothing_runs_or_is_fetched(seen: Seen):
    assert not {"script", "img", "iframe", "link", "object"} & set(seen.tags)
    names = {name for name, _ in seen.attributes}
    assert not [name for name in names if name.startswith("on")]
    assert not {"src", "href", "action"} & names
    assert "<script>alert(1)</script>" in "".join(seen.text)
    assert "\x1b" not in "".join(seen.text)
    assert "\u202e" not in "".join(seen.text)


def test_a_text_without_end_is_cut(seen: Seen):
    assert len("".join(seen.text)) < 20_000


def test_what_is_not_known_is_a_dash():
    lines = [line.model_copy(update={"train_accuracy": None, "test_accuracy": None}) for line in REPORT.checkpoints]
    told = page(
        job_of("completed", done=6), REPORT.model_copy(update={"checkpoints": lines}), np.array([0.5]), [], LINEAGE
    )

    assert "–" in told
    assert "None" not in told
    assert "nan" not in told.lower()


def test_the_checkpoints_stand_under_the_curves_as_far_as_there_is_room():
    names = [f"<b>run & co</b>/checkpoint-{step}" for step in range(13)]
    lines = [REPORT.checkpoints[0].model_copy(update={"checkpoint": name}) for name in names]
    seen = Seen()

    seen.feed(
        page(job_of("completed", done=6), REPORT.model_copy(update={"checkpoints": lines}), np.array([]), [], LINEAGE)
    )

    shown = [text for text in seen.text if text.startswith("…")]
    assert shown == [f"…{name[-17:]}" for name in names[::3]]
    assert "accuracy now): –." in " ".join(seen.text)
    assert "b" not in seen.tags
