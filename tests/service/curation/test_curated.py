"""The curated subset, streamed as it was uploaded."""

from __future__ import annotations

import gzip
import io
import json

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from premem.records import Observation
from premem_service.curation import jsontypes, subset
from tests.service.serving import on_sqlite
from tests.service.working import always_right, ended, must_lease, put, result, work_off

ROWS = 9


def observe(checkpoint: str, row: int) -> Observation:
    """Scores 0, 0.5 and 1, three rows each."""
    return Observation(correct=row // 3, sampled=2, perplexity=2.0)


def original(row: int) -> dict:
    return {
        "id": f"q{row}",
        "question": f"Zähle: {row} + 1?",
        "answer": f"#### {row + 1}",
        "level": row if row % 2 else float(row) + 0.5,
        "tags": ["a", str(row)],
        "meta": {"source": None if row == 4 else "book", "big": 10**30},
        "odd": [1, "two"] if row == 7 else row,
    }


@pytest.fixture
def scored(client, post_job) -> str:
    """A completed job over nine rows with columns of every kind."""
    lines = "\n".join(json.dumps(original(row), ensure_ascii=False) for row in range(ROWS))
    dataset = client.post("/v1/datasets", content=gzip.compress(lines.encode())).json()["id"]
    job = post_job(dataset=dataset)
    work_off(client, observe)
    assert ended(client, job)["state"] == "completed"
    return job


def rows_of(answer) -> list[dict]:
    return [json.loads(line) for line in answer.text.splitlines()]


def test_the_lowest_rows_come_back_as_they_were_uploaded(client, scored):
    answer = client.get(f"/v1/jobs/{scored}/curated", params={"below": 1.0})

    rows = rows_of(answer)
    about = [row.pop("premem") for row in rows]
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/jsonl"
    assert answer.headers["X-Premem-Rows"] == "6"
    assert rows == [original(row) for row in range(6)]
    assert [one["rank"] for one in about] == [one["row"] for one in about] == list(range(6))
    assert [one["pre_memorization_accuracy"] for one in about] == [0.0] * 3 + [0.5] * 3
    assert about[3] == {
        "rank": 3,
        "row": 3,
        "pre_memorization_accuracy": 0.5,
        "mean_accuracy": 0.5,
        "accuracy": [0.5, 0.5],
        "perplexity": [2.0, 2.0],
        "tags": [],
        "policy": "lowest",
        "group": "chosen",
    }


@on_sqlite
@pytest.mark.parametrize(
    ("below", "budget", "rows"), [(0.5, None, 3), (0.51, None, 6), (1.0, 2, 2), (0.0, None, 0), (0.5, 100, 3)]
)
def test_below_is_exclusive_and_the_budget_caps(client, scored, below, budget, rows):
    params = {"below": below, **({"budget": budget} if budget else {})}

    answer = client.get(f"/v1/jobs/{scored}/curated", params=params)

    assert answer.headers["X-Premem-Rows"] == str(rows)
    assert [row["premem"]["row"] for row in rows_of(answer)] == list(range(rows))


@on_sqlite
@pytest.mark.parametrize("params", [{"below": 1.5}, {"below": "low"}, {"budget": 0}, {"format": "csv"}])
def test_what_makes_no_sense_is_refused_before_the_stream(client, scored, params):
    answer = client.get(f"/v1/jobs/{scored}/curated", params=params)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == next(iter(params))


@on_sqlite
def test_parquet_holds_the_same_rows(client, scored):
    answer = client.get(f"/v1/jobs/{scored}/curated", params={"below": 1.0, "format": "parquet"})

    frame = pl.read_parquet(io.BytesIO(answer.content))
    rows = frame.to_dicts()
    assert answer.headers["Content-Type"] == "application/vnd.apache.parquet"
    assert frame.columns == [*original(0), "premem"]
    assert frame["level"].dtype == pl.Float64
    for row, sent in zip(rows, map(original, range(6)), strict=True):
        assert row["premem"]["row"] == int(sent["id"][1:])
        assert row["meta"]["source"] == sent["meta"]["source"]
        assert json.loads(row["meta"]["big"]) == 10**30
        assert [row[name] for name in ("id", "question", "answer", "tags", "odd")] == [
            sent[name] for name in ("id", "question", "answer", "tags", "odd")
        ]


@on_sqlite
def test_an_empty_subset_is_a_whole_parquet_file(client, scored):
    answer = client.get(f"/v1/jobs/{scored}/curated", params={"below": 0.0, "format": "parquet"})

    assert pl.read_parquet(io.BytesIO(answer.content)).height == 0


@on_sqlite
def test_a_subset_larger_than_what_is_read_at_once_is_whole(client, scored, monkeypatch):
    whole = client.get(f"/v1/jobs/{scored}/curated", params={"below": 1.0}).text
    monkeypatch.setattr(subset, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(subset, "READ_AT_ONCE", 4)

    assert client.get(f"/v1/jobs/{scored}/curated", params={"below": 1.0}).text == whole


@on_sqlite
def test_no_temporary_file_is_left(client, app, scored):
    for form in ("jsonl", "parquet"):
        client.get(f"/v1/jobs/{scored}/curated", params={"below": 1.0, "format": form})

    assert list((app.state.settings.data_dir / "temporary").iterdir()) == []


@on_sqlite
def test_a_subset_that_is_uploaded_again_gets_new_scores(client, scored, post_job):
    subset = client.get(f"/v1/jobs/{scored}/curated", params={"below": 1.0}).content
    dataset = client.post("/v1/datasets", content=subset).json()["id"]
    job = post_job(dataset=dataset)
    work_off(client, lambda name, row: Observation(correct=0, sampled=2, perplexity=3.0))
    ended(client, job)

    rows = rows_of(client.get(f"/v1/jobs/{job}/curated"))

    assert len(rows) == 6
    assert [row["premem"]["perplexity"] for row in rows] == [[3.0, 3.0]] * 6
    assert [row["id"] for row in rows] == [f"q{row}" for row in range(6)]


def test_values_that_do_not_go_together_become_json_text():
    rows = [{"a": 1, "b": [1]}, {"a": "one", "b": {}}, {"a": None, "c": True}]

    table = jsontypes.table(rows, jsontypes.see_all(rows))

    assert table.schema == pa.schema({"a": pa.string(), "b": pa.string(), "c": pa.bool_()})
    assert table.to_pylist() == [
        {"a": "1", "b": "[1]", "c": None},
        {"a": '"one"', "b": "{}", "c": None},
        {"a": None, "b": None, "c": True},
    ]


def test_large_integers_are_not_rounded_beside_fractions():
    rows = [{"n": 2**60 + 1}, {"n": 0.5}]

    table = jsontypes.table(rows, jsontypes.see_all(rows))

    assert table["n"].to_pylist() == [str(2**60 + 1), "0.5"]


def test_every_kind_of_column_can_be_written_as_parquet():
    rows = [{"nothing": None, "empty": {}, "lists": [], "deep": [{"x": [1.5, None]}]}]

    table = jsontypes.table(rows, jsontypes.see_all(rows))
    out = io.BytesIO()
    pq.write_table(table, out)
    out.seek(0)

    assert pl.read_parquet(out).to_dicts() == [
        {"nothing": None, "empty": "{}", "lists": [], "deep": [{"x": [1.5, None]}]}
    ]


def test_an_export_carries_what_it_follows_from(client, scored):
    params = {"below": 1.0, "budget": 4, "seed": 5, "group": "control"}

    rows = client.get(f"/v1/jobs/{scored}/curated", params=params)
    link = rows.headers["Link"].split(">")[0].removeprefix("<")
    told = client.get(link).json()
    parquet = client.get(f"/v1/jobs/{scored}/curated", params={**params, "format": "parquet"}).content
    job = client.get(f"/v1/jobs/{scored}").json()

    assert json.loads(pq.read_schema(io.BytesIO(parquet)).metadata[b"premem.lineage"]) == told
    assert {
        name: told[name] for name in ("job", "policy", "below", "budget", "seed", "group", "rows", "qualified")
    } == {
        "job": scored,
        "policy": "lowest",
        "below": 1.0,
        "budget": 4,
        "seed": 5,
        "group": "control",
        "rows": 4,
        "qualified": 6,
    }
    assert told["dataset"] == job["dataset"]
    assert (told["dataset_rows"], told["sampling"], told["grader"]) == (ROWS, job["sampling"], job["grader"])
    assert [(one["name"], one["path"]) for one in told["checkpoints"]] == [
        (one["name"], one["path"]) for one in job["checkpoints"]
    ]
    assert told["threshold"] == job["threshold"]
    assert told["produced_by"]["engine"] == "fake"
    assert {one["weights"] for one in told["checkpoints"]} == {None}


@on_sqlite
def test_the_lineage_says_which_weights_each_checkpoint_had(client, post_job):
    job = post_job(shard_rows=12)
    for told in ("w1", ""):
        task = must_lease(client)
        put(client, task, result(task, always_right, weights=told))
    ended(client, job)

    lineage = client.get(f"/v1/jobs/{job}/curated/lineage").json()

    assert [one["weights"] for one in lineage["checkpoints"]] == ["w1", None]
    assert "weights" not in lineage["produced_by"]


@on_sqlite
def test_lineage_is_refused_where_rows_would_be(client, scored):
    assert client.get("/v1/jobs/job_none/curated/lineage").status_code == 404
    assert client.get(f"/v1/jobs/{scored}/curated/lineage", params={"policy": "band", "above": 0.9}).status_code == 422
