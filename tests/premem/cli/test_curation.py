"""Choosing from the command line, against a real service and an imported run, compared with what the API says."""

import json

import numpy as np
import polars as pl
import pytest

from premem.client.client import Client
from premem.wire.datasets import Columns
from tests.premem.commands import EXAMPLES, LOW, lines, ok, premem, read


@pytest.fixture(scope="module")
def pool(url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Id of a data set of five trains and five cakes, one of which was trained on."""
    things = ["train"] * 5 + ["cake"] * 4
    rows = [
        {"question": f"A long {thing} of {n}?", "answer": f"#### {n}", "kind": thing} for n, thing in enumerate(things)
    ]
    rows.append({"question": "A cake of 20 parts, and one more?", "answer": "#### 21", "kind": "cake"})
    path = lines(tmp_path_factory.mktemp("pool") / "pool.jsonl", rows)
    with Client(url) as client:
        return client.upload(path, columns=Columns()).id


def test_select_shows_what_the_api_says(url, job):
    options = ("--policy", "band", "--above", "0.5", "--below", "1", "--seed", "3")
    with Client(url) as client:
        told = client.selection(job, policy="lowest", budget=5, seed=3)

    shown = ok(premem(url, "select", job, "--budget", "5", "--seed", "3")).stdout
    as_json = json.loads(ok(premem(url, "select", job, "--budget", "5", "--seed", "3", "--json")).stdout)
    band = ok(premem(url, "select", job, *options)).stdout

    assert as_json == told.model_dump(mode="json")
    assert told.qualified == LOW
    assert "policy lowest: 20 examples qualified, 5 are chosen" in shown
    assert "words in the question" in shown
    assert "policy band: 0 examples qualified" in band


def test_two_policies_are_compared_by_what_both_choose(url, job):
    with Client(url) as client:
        found = client.overlap(job, {"below": 0.5, "budget": 5}, {"policy": "variance"}, limit=2)
        chosen = {one.row for one in client.selection(job, below=0.5, budget=5).chosen}
        others = [one.row for one in client.selection(job, policy="variance").chosen]

    assert found.both.total == len(chosen & set(others)) == 5
    assert (found.only_one.total, found.only_other.total) == (0, len(others) - 5)
    assert [one.row for one in found.only_other.first] == [row for row in others if row not in chosen][:2]
    assert (found.lineage.budget, found.other.policy) == (5, "variance")


def test_an_overlap_is_shown_as_a_table(url, job):
    options = ["--budget", "5", "--other-policy", "variance", "--limit", "2"]
    with Client(url) as client:
        told = client.overlap(job, {"budget": 5}, {"policy": "variance"}, limit=2)

    shown = [line.strip() for line in ok(premem(url, "overlap", job, *options)).stdout.splitlines()]
    as_json = json.loads(ok(premem(url, "overlap", job, *options, "--json")).stdout)

    rows = ", ".join(str(one.row) for one in told.both.first)
    assert as_json == told.model_dump(mode="json")
    assert shown[1].split(maxsplit=2) == ["both", "5", f"{rows}, …"]
    assert shown[2].split() == ["only", "lowest", "below", "0.5,", "5", "at", "most", "0"]
    assert shown[3].split()[:3] == ["only", "variance", str(EXAMPLES - 5)]


def test_curate_writes_what_a_policy_chooses_or_the_control(url, job, tmp_path):
    chosen, control = tmp_path / "chosen.jsonl", tmp_path / "control.jsonl"
    with Client(url) as client:
        told = client.selection(job, budget=7, seed=1)

    ok(premem(url, "curate", job, "--budget", "7", "--seed", "1", "-o", chosen))
    ok(premem(url, "curate", job, "--budget", "7", "--seed", "1", "--control", "-o", control))

    assert [row["premem"]["row"] for row in read(chosen)] == [one.row for one in told.chosen]
    assert sorted(row["premem"]["row"] for row in read(control)) == sorted(one.row for one in told.control)
    assert {row["premem"]["group"] for row in read(control)} == {"control"}
    assert all("train" in row["question"] for row in read(chosen))


def test_weights_fit_a_weighted_random_sampler(url, job, tmp_path):
    torch = pytest.importorskip("torch")
    ok(premem(url, "weights", job, "-o", tmp_path / "weights.parquet"))

    weights = pl.read_parquet(tmp_path / "weights.parquet")["weight"].to_list()
    sampler = torch.utils.data.WeightedRandomSampler(
        weights, num_samples=2000, generator=torch.Generator().manual_seed(0)
    )
    drawn = np.bincount(list(sampler), minlength=EXAMPLES)
    told = json.loads((tmp_path / "weights.parquet.lineage.json").read_text())

    assert (told["job"], told["floor"], told["rows"]) == (job, 0.1, EXAMPLES)
    assert [one["name"] for one in told["checkpoints"]] == ["checkpoint-10"]
    assert sum(weights) == pytest.approx(1.0)
    assert drawn[:LOW].sum() / 2000 == pytest.approx(LOW / (LOW + 0.1 * (EXAMPLES - LOW)), abs=0.05)


def test_seeds_are_requests_for_a_batch_endpoint(url, job, tmp_path):
    ok(premem(url, "seeds", job, "--model", "writer", "--requests", "40", "-o", tmp_path / "seeds.jsonl"))

    requests = read(tmp_path / "seeds.jsonl")

    assert len({request["custom_id"] for request in requests}) == 40
    assert {request["url"] for request in requests} == {"/v1/chat/completions"}
    assert all("train" in request["body"]["messages"][1]["content"] for request in requests)


def test_acquire_finds_what_is_like_the_low_ones(url, job, pool, tmp_path):
    shown = ok(premem(url, "acquire", job, "--pool", pool, "--budget", "5")).stdout
    ok(premem(url, "acquire", job, "--pool", pool, "--budget", "5", "-o", tmp_path / "more.jsonl"))
    everything = json.loads(ok(premem(url, "acquire", job, "--pool", pool, "--budget", "50", "--json")).stdout)

    found = read(tmp_path / "more.jsonl")
    assert [row["kind"] for row in found] == ["train"] * 5
    assert all(row["premem"]["nearest"]["row"] < LOW for row in found)
    assert "5 candidates like 20 low examples, by tfidf; 1 rows of the pool were trained on already" in shown
    assert len(everything["candidates"]) == 9
    assert everything["notes"] == ["the pool holds 9 new examples, fewer than the budget of 50: all are here"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["select", "JOB", "--policy", "band", "--above", "0.8", "--below", "0.2"], "above"),
        (["select", "job_0"], "there is no job job_0"),
        (["acquire", "JOB", "--pool", "ds_0"], "there is no data set 'ds_0'"),
        (["acquire", "JOB", "--pool", "POOL", "--below", "0"], "no example is low"),
        (["weights", "JOB", "--floor", "0"], "floor"),
        (["curate", "JOB", "-o", "nowhere/curated.jsonl"], "nowhere"),
    ],
)
def test_what_cannot_be_is_said_in_one_line_and_leaves_nothing(url, job, pool, arguments, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    ended = premem(url, *[{"JOB": job, "POOL": pool}.get(argument, argument) for argument in arguments])

    assert (ended.returncode, told in ended.stderr) == (2, True), ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_budget_above_what_there_is_gives_all_and_says_so(url, job):
    shown = ok(premem(url, "select", job, "--budget", "5000")).stdout

    assert "20 are chosen" in shown
    assert "Note: " in shown


def test_tag_excludes_rows_from_what_is_curated(url, job, tmp_path):
    with Client(url) as client:
        dataset = client.job(job).dataset
    shown = ok(premem(url, "tag", job, "excluded", "0", "7")).stdout
    ok(premem(url, "curate", job, "-o", tmp_path / "rows.jsonl"))
    listed = json.loads(ok(premem(url, "tag", dataset, "excluded", "--json")).stdout)

    removed = ok(premem(url, "tag", job, "excluded", "7", "--remove", "--json")).stdout
    gone = ok(premem(url, "tag", job, "excluded", "--remove")).stderr

    assert shown == "excluded  2 rows\n"
    assert [row["premem"]["row"] for row in read(tmp_path / "rows.jsonl")] == [
        row for row in range(LOW) if row not in (0, 7)
    ]
    assert listed == {"tag": "excluded", "rows": [0, 7]}
    assert json.loads(removed) == {"items": [{"tag": "excluded", "rows": 1}]}
    assert "nothing in ds_" in gone
    assert premem(url, "tag", job, "Excluded", "7").returncode == 2
