"""Scoring under perturbed prompts, grading anew and a second round, on the command line with a real worker."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from premem.local import LocalService
from tests.checkpoints import make_checkpoint
from tests.premem.commands import premem


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.jsonl, a bigger train-2.jsonl and two checkpoints."""
    folder = tmp_path_factory.mktemp("run")
    rows = [{"question": f"{n} + 1?", "answer": f"#### {n + 1}", "reworded": f"1 + {n}?"} for n in range(6)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:4]))
    (folder / "train-2.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "more.json").write_text('[{"name": "reworded", "question_column": "reworded"}]')
    for step in (10, 20):
        make_checkpoint(folder / f"checkpoint-{step}", seed=step)
    return folder


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Iterator[str]:
    kept = tmp_path_factory.mktemp("service")
    with LocalService(kept, checkpoint_roots=[run], engine="transformers", workers=1) as local:
        yield local.url


def score(url: str, run: Path, data: str, *options: str | Path) -> dict:
    drawn = ("--samples", "2", "--max-tokens", "8", "--memorized-below", "1.2", "--trajectory", "everything", "--json")
    ended = premem(url, "score", run / data, run / "checkpoint-10", run / "checkpoint-20", *drawn, *options)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def scored(url: str, run: Path) -> dict:
    return score(url, run, "train.jsonl", "--answer-prefix", " We know that", "--perturbations", run / "more.json")


def test_perturbed_prompts_are_answered_and_reported(url, scored):
    told = premem(url, "report", scored["job"]["id"]).stdout

    assert [one["perturbation"] for one in scored["report"]["robustness"]] == ["We know that", "reworded"]
    assert [one["overall"]["examples"] for one in scored["report"]["robustness"]] == [4, 4]
    assert "We know that" in told
    assert "examples have a pre-memorization accuracy under 0.5" in told


def test_answers_are_graded_anew_and_the_disagreement_is_told(url, scored):
    ended = premem(url, "regrade", scored["job"]["id"], "--grader", "regex", "--grader-options", '{"pattern": "(.)"}')
    assert ended.returncode == 0, ended.stderr
    waited = premem(
        url,
        *("regrade", scored["job"]["id"], "--grader", "choice", "--grader-options", '{"letters": "ABCD"}', "--wait"),
    )

    assert waited.returncode == 0, waited.stderr
    assert "gsm8k and choice disagree on" in waited.stdout
    # Two checkpoints, four examples, two samples, and three times as many at the last one under perturbed prompts.
    assert "of 40 answers" in waited.stdout


def test_candidates_are_found_by_what_the_last_checkpoint_makes_of_them(url, run, scored):
    pool = [{"question": f"{n} + 2?", "answer": f"#### {n + 2}"} for n in range(5)]
    (run / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pool))
    uploaded = json.loads(premem(url, "upload", run / "pool.jsonl", "--json").stdout)

    ended = premem(url, "acquire", scored["job"]["id"], "--pool", uploaded["id"], "--by", "embedding", "--json")

    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["by"], found["low"]) == ("embedding", scored["report"]["low"]["examples"])
    assert sorted(one["row"] for one in found["candidates"]) == [0, 1, 2, 3, 4]
    assert all(-1.0 <= one["similarity"] <= 1.0 for one in found["candidates"])


def test_a_second_round_is_compared_with_the_first(url, run, scored):
    second = score(url, run, "train-2.jsonl", "--previous", scored["job"]["id"])
    changes = second["report"]["changes"]
    told = premem(url, "report", second["job"]["id"]).stdout

    assert (changes["kept"], changes["added"], changes["dropped"]) == (4, 2, 0)
    assert changes["kept_before"] == changes["kept_after"]  # the same checkpoints, samples and seeds
    assert "4 examples kept, 2 added, 0 dropped" in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--previous", "job_0"], "there is no job 'job_0'"),
        (["--perturbations", "nowhere.json"], "nowhere.json"),
        (["--answer-prefix", ""], "changes nothing"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(url, run, options, told):
    ended = premem(url, "score", run / "train.jsonl", run / "checkpoint-10", *options)

    assert (ended.returncode, told in ended.stderr) == (2, True), ended.stderr


def test_grading_anew_with_the_same_grader_is_refused(url, scored):
    ended = premem(url, "regrade", scored["job"]["id"], "--grader", "gsm8k")

    assert ended.returncode == 2
    assert "graded job" in ended.stderr
