"""What was measured, and the page that tells of it."""

from __future__ import annotations

import json
import runpy
import sys

import numpy as np
import pytest

from benchmarks import intervals, pages
from benchmarks.measured import RESULTS, Measured, Ratio
from benchmarks.performance_page import PAGE, page


def test_the_page_is_written_from_the_results():
    assert PAGE.read_text() == page(), "python -m benchmarks.performance_page writes it anew"


def test_every_result_has_rounds_and_the_ratio_of_its_medians():
    kept = [json.loads(path.read_text()) for path in RESULTS.glob("*.json")]

    assert kept
    for ratio in (ratio for one in kept for ratio in one["ratios"]):
        made = Ratio(**{name: value for name, value in ratio.items() if name != "ratio"})
        assert made.ratio == pytest.approx(ratio["ratio"])
        assert min(len(ratio["values"]), len(ratio["others"])) >= 3


def test_a_ratio_is_that_of_the_medians():
    ratio = Ratio("time", "one", [6.0, 1.0, 600.0], "other", [2.0, 3.0, 1.0], "s", aim="at least 2")

    assert ratio.ratio == 3.0
    assert str(ratio) == "time: one 6 s, other 2 s: 3 times (medians of 3; aim at least 2)"


def test_a_ratio_just_short_of_its_aim_is_not_rounded_up_to_it():
    ratio = Ratio("time", "one", [1.996], "other", [1.0], "s", aim="at least 2")

    assert "1.996 times" in str(ratio)


def test_the_page_shows_a_near_miss_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.measured.RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.performance_page.RESULTS", tmp_path)
    measured = Measured("near", "What was measured.")
    measured.tell(Ratio("time", "one", [1.996], "other", [1.0], "s", aim="at least 2"))
    measured.keep()

    assert "| 1.996 | at least 2 |" in page()


def test_a_run_is_kept_with_the_machine_and_the_versions(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.measured.RESULTS", tmp_path)
    measured = Measured("name", "What was measured.")
    measured.tell(Ratio("time", "one", [2.0], "other", [1.0], "s"))
    measured.note("seconds", 3.0)

    measured.keep()

    kept = json.loads((tmp_path / "name.json").read_text())
    assert kept["facts"] == {"seconds": 3.0}
    assert kept["ratios"][0]["ratio"] == 2.0
    assert "premem" in kept["versions"]


@pytest.mark.parametrize("name", ["efficiency", "gpu", "reference_way", "scaling"])
def test_every_benchmark_says_what_it_measures(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])

    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")

    assert ended.value.code == 0
    assert "--keep" in capsys.readouterr().out


def test_pages_of_a_small_job_are_measured():
    seen = pages.measure(2 * pages.PAGE_ROWS, checkpoints=2)

    assert len(seen.page_milliseconds) == pages.PAGES
    assert min(seen.page_milliseconds) > 0
    assert seen.exported["jsonl"][0] == seen.exported["parquet"][0]
    assert 0 < seen.exported["jsonl"][0] <= 2 * pages.PAGE_ROWS
    assert seen.scores_bytes > 0


def test_every_candidate_for_an_interval_is_measured_and_the_chosen_one_contains_every_score():
    true_CE, memorized_CE = np.full((2, 400), 0.5), np.zeros((2, 400), dtype=bool)

    told = [line.split(" | ") for line in intervals.lines("even", true_CE, memorized_CE, np.random.default_rng(0))]

    assert [cells[1] for cells in told][0::4] == ["equal-tailed", "shortest that contains the score"]
    assert told[-1][2] == "1.000"
    assert all(0 <= float(cells[3]) <= 1 for cells in told)
