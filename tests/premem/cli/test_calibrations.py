"""Calibrating from the command line, against a real service: recorded runs go in, forecasts come out."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.premem.commands import premem

EXAMPLES = 60
LINE = 1.3


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "sums.jsonl"
    rows = [{"question": f"{n} + 1?", "answer": f"#### {n + 1}"} for n in range(EXAMPLES)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs; whatever is under the line is right by heart, the rest as often as the test questions."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(1, 5):
        random = np.random.default_rng(seed)
        for step in (10, 20, 30):
            checkpoint = folder / f"sums_full_lr{seed}e-05_bs8" / f"checkpoint-{step}"
            checkpoint.mkdir(parents=True)
            perplexity_E = 1 + random.gamma(2.0, 6.0 / step, EXAMPLES)
            right = random.random((EXAMPLES, 50)) < step / 40 * random.uniform(0.8, 1.0)
            right[perplexity_E < LINE] = True
            learnt = np.where(perplexity_E < LINE, 0.0, right.mean(axis=1)).mean()
            np.save(checkpoint / "train_answer_types5_seed2_temp0.8.npy", (~right).astype(np.int64))
            np.save(checkpoint / "train_perplexities.npy", perplexity_E)
            np.save(checkpoint / "test_answer_types5_seed2_temp0.8.npy", (np.arange(500) >= 500 * learnt)[:, None] * 1)
    return folder


@pytest.fixture(scope="module")
def jobs(url: str, folder: Path, questions: Path) -> list[str]:
    ended = premem(url, "import-recorded", folder, "--data", questions, "--model", "LlamaForCausalLM 236k", "--json")
    assert ended.returncode == 0, ended.stderr
    return [job["id"] for job in json.loads(ended.stdout)["items"]]


def test_recorded_runs_become_completed_jobs_with_what_their_folders_say(url, jobs):
    told = [json.loads(premem(url, "status", job, "--json").stdout) for job in jobs]

    assert [job["state"] for job in told] == ["completed"] * 4
    assert [job["learning_rate"] for job in told] == [1e-5, 2e-5, 3e-5, 4e-5]
    assert {job["task"] for job in told} == {"sums.jsonl"}
    assert told[0]["grader"]["name"] == "authors"


def test_a_calibration_is_made_listed_used_and_forgotten(url, jobs):
    made = premem(url, "calibrate", "sums", *jobs[:3])
    listed = premem(url, "calibrations")
    report = premem(url, "report", jobs[3], "--calibration", "sums")
    bare = premem(url, "report", jobs[3])
    forgotten = premem(url, "calibrations", "sums", "--delete")
    empty = premem(url, "calibrations")

    assert made.returncode == 0, made.stderr
    assert "Leaving one run out: R² on y = x" in made.stdout
    assert "model LlamaForCausalLM 236k, task sums.jsonl, grader authors 1" in made.stdout
    assert "only 3 runs" in made.stderr
    assert "sums" in listed.stdout
    assert "forecast of test accuracy" in report.stdout
    assert "Forecast given: calibration sums" in report.stdout
    assert "forecast of test accuracy" not in bare.stdout.splitlines()[0]
    assert "Forecast refused" in bare.stdout
    assert forgotten.returncode == 0
    assert "There are no calibrations." in empty.stdout


def test_one_job_is_bad_input(url, jobs):
    ended = premem(url, "calibrate", "one", jobs[0])

    assert ended.returncode == 2
    assert "at least two runs" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["calibrate", "a/b", "job_1", "job_2"], "--name"),
        (["calibrations", "--delete"], "name the calibration"),
        (["calibrations", "nobody"], "there is no calibration 'nobody'"),
        (["import-recorded", ".", "--data", "x", "--model", "m"], "holds no run"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(url, arguments, complaint):
    ended = premem(url, *arguments)

    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_questions_that_are_not_there_are_named(url, folder):
    ended = premem(url, "import-recorded", folder, "--data", "nowhere.jsonl", "--model", "m")

    assert ended.returncode == 2
    assert "nowhere.jsonl: there is no such file" in ended.stderr
