from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch

from lab import claim_data_efficiency, claim_dataset_level, claim_robustness
from lab.claim_data_efficiency import EXAMPLES, Round, added, covering_rows, low_first, table, twins_of
from lab.claim_dataset_level import SWEEP, Configuration
from lab.plots import Axis, curves, scatter
from lab.questions import FINETUNING_VERBS, training_rows
from premem.method.robustness import Drop

SVG = "{http://www.w3.org/2000/svg}"
SHARE = Axis("share", 0.0, 1.0)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def observed(accuracy_CE: list[list[float]], perplexity_CE: list[list[float]]) -> Round:
    rows = training_rows(len(accuracy_CE[0]), seed=5)
    return Round(rows, Path("checkpoint-1"), np.array(accuracy_CE), np.array(perplexity_CE))


def drawn(svg: str, shape: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(f"{SVG}{shape}"))  # noqa: S314 (our own)


# The claim on data sets


def test_the_sweep_is_wide_enough_to_calibrate_on() -> None:
    assert len({configuration.name for configuration in SWEEP}) == len(SWEEP) >= 10
    assert len({configuration.seed for configuration in SWEEP}) == len(SWEEP)
    assert len({configuration.learning_rate for configuration in SWEEP}) == 4
    assert {configuration.examples for configuration in SWEEP} >= {100, 200, 400}


def test_a_sweep_of_two_tiny_runs_is_scored_calibrated_and_written_and_not_done_twice(tmp_path: Path) -> None:
    sweep = (Configuration(12, 4e-3, 2, 1, seed=1), Configuration(16, 8e-3, 2, 1, seed=2))

    first = claim_dataset_level.claim(sweep, folder=tmp_path / "out", docs=tmp_path / "docs")
    again = claim_dataset_level.claim(sweep, folder=tmp_path / "out", docs=tmp_path / "docs")

    assert again.jobs == first.jobs
    assert again.fit == first.fit
    assert [point.run for point in first.points] == ["n12-lr0.004-e2"] * 2 + ["n16-lr0.008-e2"] * 2
    text = (tmp_path / "docs" / "claims.md").read_text()
    assert "2 runs, 4 checkpoints" in text
    assert text.count("| n12-lr0.004-e2 |") == 2
    assert str(tmp_path) not in text
    assert len(drawn((tmp_path / "docs" / "claims-scatter.svg").read_text(), "circle")) == 4


def test_a_finetuning_that_was_interrupted_starts_anew_and_a_finished_one_does_not(tmp_path: Path) -> None:
    configuration = Configuration(16, 4e-3, 1, 1, seed=1)
    (tmp_path / "run" / "checkpoint-99").mkdir(parents=True)

    checkpoints = claim_dataset_level.finetuned(configuration, tmp_path / "run")
    written_at = [(checkpoint / "config.json").stat().st_mtime_ns for checkpoint in checkpoints]
    again = claim_dataset_level.finetuned(configuration, tmp_path / "run")

    assert [checkpoint.name for checkpoint in checkpoints] == ["checkpoint-1"]
    assert not (tmp_path / "run" / "checkpoint-99").exists()
    assert again == checkpoints
    assert [(checkpoint / "config.json").stat().st_mtime_ns for checkpoint in again] == written_at


# The claim on data efficiency


def test_the_first_round_holds_every_verb() -> None:
    rows = covering_rows(EXAMPLES, seed=0)

    assert len(rows) == EXAMPLES
    assert {verb for row in rows for verb in row["verbs"]} == set(FINETUNING_VERBS)


def test_low_examples_come_lowest_first_and_those_solved_before_they_were_memorized_not_at_all() -> None:
    run = observed(
        [[0.4, 1.0, 0.0], [1.0, 1.0, 1.0]],
        [[2.0, 2.0, 2.0], [1.1, 1.1, 1.1]],
    )

    assert [row["id"] for row in low_first(run)] == ["train-0002", "train-0000"]


def test_twins_are_dealt_out_in_turns() -> None:
    rows = training_rows(2, seed=5)

    twins = twins_of(rows, 3, seed=1)

    assert [twin["twin_of"] for twin in twins] == ["train-0000", "train-0001", "train-0000"]


def test_each_arm_adds_as_many_and_the_low_arm_only_twins_of_low_ones() -> None:
    accuracy = [[0.0, 1.0] * 5]
    run = observed(accuracy, [[2.0] * 10])

    sizes = {arm: len(added(arm, run, seed=1)) for arm in ("i.i.d.", "random", "longest", "low")}
    low = {row["twin_of"] for row in added("low", run, seed=1)}

    assert set(sizes.values()) == {claim_data_efficiency.ADDED}
    assert low == {f"train-{row:04d}" for row in range(0, 10, 2)}


def test_the_table_gives_a_gain_with_its_paired_error() -> None:
    text = table({"i.i.d.": [0.5, 0.7], "low": [0.6, 0.8]})

    assert "| low | 0.700 | 0.100 | +0.100 | 0.000 |" in text


# The claim on robustness


def test_only_examples_that_the_last_checkpoint_always_solved_are_compared() -> None:
    run = observed([[0.4, 0.8], [1.0, 0.8]], [[2.0, 2.0], [1.1, 1.1]])

    assert claim_robustness.always_solved(run).tolist() == pytest.approx([0.4, np.nan], nan_ok=True)


def test_the_contrast_is_what_the_lowest_band_loses_more_than_the_highest() -> None:
    def bands(low: float | None, high: float) -> list[Drop]:
        return [Drop(0.0, 0.5, 3, 1.0, low, None), Drop(0.5, 1.0, 3, 1.0, high, None)]

    difference, error = claim_robustness.contrast([bands(0.3, 0.1), bands(0.5, 0.1), bands(None, 0.1)])

    assert difference == pytest.approx(0.3)
    assert error == pytest.approx(0.1)


# Plots


def test_a_plot_puts_low_at_the_bottom_and_cuts_what_lies_outside_at_the_edge() -> None:
    text = scatter({"runs": [(0.0, 0.0), (1.0, 1.0), (0.5, -7.0)]}, title="A < B", x=SHARE, y=SHARE)

    low, high, outside = drawn(text, "circle")
    assert float(low.attrib["cy"]) > float(high.attrib["cy"])
    assert float(low.attrib["cx"]) < float(high.attrib["cx"])
    assert outside.attrib["cy"] == low.attrib["cy"]


def test_curves_have_a_name_and_a_colour_each() -> None:
    text = curves({"one": [(0, 0), (1, 1)], "two": [(0, 1), (1, 0)]}, title="Two", x=SHARE, y=SHARE, levels=(0.9,))

    lines = drawn(text, "polyline")
    assert len({line.attrib["stroke"] for line in lines}) == 3
    assert ">one<" in text
    assert ">two<" in text
