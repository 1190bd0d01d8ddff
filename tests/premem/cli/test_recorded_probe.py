"""`premem recorded-probe`, on logs written here."""

import json
import subprocess
import sys

import pytest

CHOSEN = "logps_eval_prob_train/chosen"


def premem(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "premem", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def authors_log(tmp_path):
    lines = [
        {CHOSEN: -10.0, "argmax_prob_logits": -5.0},
        {CHOSEN: -12.0, "argmax_prob_logits": -3.0, "p_e": float("nan")},
    ]
    path = tmp_path / "prob_train_metrics.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, lines[1] | {"p_e": 0.5}]))
    return path


@pytest.fixture
def long_log(tmp_path):
    lines = [
        {"checkpoint": name, "row": row, "family": "chosen", "log_probability": level, "tokens": 10, "argmax": top}
        for name, level, top in (("base", -20.0, -10.0), ("step-10", -25.0, -6.0))
        for row in range(100)
    ]
    path = tmp_path / "probe.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_log_of_means_shows_its_families_and_that_it_has_no_verdict(authors_log):
    found = premem("recorded-probe", authors_log)

    assert found.returncode == 0, found.stderr
    assert "-12.00" in found.stdout
    assert "nothing here has an interval, and there is no verdict" in found.stdout
    assert (
        "since the start: at 2 of 3 evaluations, first at 1, at the last one too; 1 come right behind" in found.stdout
    )
    assert "warning: p_e is missing at some evaluation and was dropped" in found.stderr


def test_for_programs_it_is_one_object(authors_log):
    found = json.loads(premem("recorded-probe", authors_log, "--json").stdout)

    assert (found["format"], found["evaluations"], found["runs"]) == ("authors", 3, [3])
    assert found["series"]["chosen"] == {"start": -10, "end": -12, "max": -10, "max_at": 0, "min": -12, "min_at": 1}
    assert found["as_logged"]["since_start"] == {"at": [1, 2], "counted": [2], "last_fires": True}


def test_the_long_format_shows_a_verdict_what_could_not_be_seen_and_what_to_try(long_log):
    found = premem("recorded-probe", long_log)

    assert found.returncode == 0, found.stderr
    told = " ".join(found.stdout.split())  # lines are as wide as the terminal
    assert "-0.500 (-0.500 to -0.500)" in told
    assert "On trained prompts, squeeze: chosen fell while the likeliest tokens rose" in told
    assert "A fall smaller than 0.010 per token cannot be seen with 100 pairs" in told
    assert "Not scored, so its part of the rule was skipped: rejected." in told
    assert "To try: Stop at the best checkpoint" in told


def test_the_long_format_for_programs_has_its_evaluations(long_log):
    found = json.loads(premem("recorded-probe", long_log, "--json").stdout)

    assert found["parts"]["train"]["evaluations"][0]["since_reference"]["name"] == "squeeze"
    assert [line["occasion"] for line in found["advice"]] == ["squeeze"] * 4


def test_a_file_that_is_no_log_is_bad_input(tmp_path):
    path = tmp_path / "loss.json"
    path.write_text('{"loss": 1.0}\n')

    found = premem("recorded-probe", path)

    assert found.returncode == 2
    assert "premem: loss.json is no log that is known" in found.stderr
