"""Scores, ranked pages, one example and the report, held to the scalar form of the method."""

from __future__ import annotations

import io

import numpy as np
import polars as pl
import pytest

from premem.method.memorization import is_memorized, pre_memorization_accuracy
from premem.method.uncertainty import score_intervals
from premem.payloads.results import SCHEMA, RowResult, encode, metadata
from premem.records import Observation
from tests.service.scored_run import CHECKPOINTS, MEMORIZED_BELOW, ROWS, all_examples, history, observe
from tests.service.serving import on_sqlite, upload
from tests.service.working import PRODUCED_BY, ended, must_lease, put, result, work_off


@pytest.fixture
def scored(client, post_job) -> str:
    """A completed job over sixty questions, three checkpoints and a test set."""
    dataset = upload(client, rows=ROWS, offset=1000)
    test = upload(client, rows=10, offset=5000)
    checkpoints = [{"path": f"/runs/{name}"} for name in CHECKPOINTS]
    job = post_job(
        dataset=dataset, test_dataset=test, checkpoints=checkpoints, memorized_below=MEMORIZED_BELOW, shard_rows=7
    )
    work_off(client, observe)
    assert ended(client, job)["state"] == "completed"
    return job


def test_every_score_is_that_of_the_scalar_form(client, scored):
    items = all_examples(client, scored, limit=1000)

    assert {item["row"] for item in items} == set(range(ROWS))
    for item in items:
        seen = history(item["row"])
        assert item["pre_memorization_accuracy"] == pre_memorization_accuracy(seen, memorized_below=MEMORIZED_BELOW)
        assert item["accuracy"] == [one.accuracy for one in seen]
        assert item["perplexity"] == [one.perplexity for one in seen]
        assert item["memorized"] == [is_memorized(one.perplexity, memorized_below=MEMORIZED_BELOW) for one in seen]
        assert item["mean_accuracy"] == pytest.approx(sum(item["accuracy"]) / 3)
        assert item["id"] == str(item["row"])
        assert item["question"] == f"What is {1000 + item['row']} + 1?"


@on_sqlite
def test_every_score_has_an_interval_and_says_where_its_example_was_memorized(client, scored):
    items = all_examples(client, scored, limit=1000)

    rows = [item["row"] for item in items]
    seen_EC = [history(row) for row in rows]
    correct_CE = np.array([[one.correct for one in seen] for seen in seen_EC]).T
    memorized_CE = np.array([[one.perplexity < MEMORIZED_BELOW for one in seen] for seen in seen_EC]).T
    score_E = np.array([item["pre_memorization_accuracy"] for item in items])
    low_E, high_E = score_intervals(score_E, correct_CE, memorized_CE, samples=2)
    assert ((low_E <= score_E) & (score_E <= high_E)).all()
    assert [item["interval"]["low"] for item in items] == low_E.tolist()
    assert [item["interval"]["high"] for item in items] == high_E.tolist()
    for item, seen in zip(items, seen_EC, strict=True):
        first = next((place for place, one in enumerate(seen) if one.perplexity < MEMORIZED_BELOW), None)
        assert item["last_accuracy"] == seen[-1].accuracy
        assert item["memorized_at"] == (None if first is None else CHECKPOINTS[first])


@on_sqlite
def test_copied_is_the_share_of_answers_as_like_the_reference_as_the_job_asks(client, post_job):
    alike = {"checkpoint-1": [0.1, 0.79], "checkpoint-2": [0.8, 1.0]}
    job = post_job(copied_from=0.8)
    work_off(client, similar=lambda name, row: alike[name] if row else [0.9, 0.9])

    assert ended(client, job)["copied_from"] == 0.8
    copied = {item["row"]: item["copied"] for item in all_examples(client, job, limit=1000)}
    answers = client.get(f"/v1/jobs/{job}/examples/3").json()["checkpoints"]
    report = client.get(f"/v1/jobs/{job}/report").json()
    assert copied == {0: [1.0, 1.0], **{row: [0.0, 1.0] for row in range(1, 12)}}
    assert [answer["similarity"] for answer in answers[0]["answers"]] == [0.1, 0.79]
    assert [seen["copied"] for seen in answers] == [0.0, 1.0]
    assert [line["copied"] for line in report["checkpoints"]] == pytest.approx([1 / 12, 1.0])


@on_sqlite
def test_ranks_follow_the_documented_order_of_ties(client, scored):
    items = all_examples(client, scored, limit=1000)

    order = [
        (item["pre_memorization_accuracy"], round(item["mean_accuracy"], 9), -item["perplexity"][0], item["row"])
        for item in items
    ]
    assert [item["rank"] for item in items] == list(range(ROWS))
    assert order == sorted(order)


@on_sqlite
def test_pages_of_any_size_join_to_the_same_list(client, scored):
    whole = all_examples(client, scored, limit=1000)

    assert all_examples(client, scored, limit=7) == whole
    assert all_examples(client, scored, limit=1) == whole


@on_sqlite
def test_a_page_says_what_it_rests_on(client, scored):
    page = client.get(f"/v1/jobs/{scored}/examples", params={"limit": 3}).json()

    assert page["checkpoints"] == CHECKPOINTS
    assert page["total"] == ROWS
    assert page["threshold"]["memorized_below"] == MEMORIZED_BELOW
    assert page["threshold"]["forecast"] == "refused"


def test_a_cursor_of_another_job_is_refused(client, scored, post_job):
    cursor = client.get(f"/v1/jobs/{scored}/examples", params={"limit": 3}).json()["next_cursor"]
    other = post_job()
    work_off(client)
    ended(client, other)

    answer = client.get(f"/v1/jobs/{other}/examples", params={"cursor": cursor})

    assert answer.status_code == 422


def test_one_example_comes_with_its_row_and_every_answer(client, scored):
    listed = next(item for item in all_examples(client, scored, limit=1000) if item["row"] == 23)

    example = client.get(f"/v1/jobs/{scored}/examples/23").json()

    assert {name: example[name] for name in listed} == listed
    assert example["trace"] == "It is 1024.\n#### 1024"
    assert example["columns"] == {"question": "What is 1023 + 1?", "answer": "It is 1024.\n#### 1024", "topic": 0}
    assert [answers["checkpoint"] for answers in example["checkpoints"]] == CHECKPOINTS
    for answers, seen in zip(example["checkpoints"], history(23), strict=True):
        assert answers["accuracy"] == seen.accuracy
        assert answers["perplexity"] == seen.perplexity
        assert [answer["verdict"] for answer in answers["answers"]].count("right") == seen.correct
        assert answers["answers"][0]["text"] == f"{answers['checkpoint']} row 23 answer 0"


@on_sqlite
def test_an_example_past_the_end_is_not_found(client, scored):
    answer = client.get(f"/v1/jobs/{scored}/examples/{ROWS}")

    assert answer.status_code == 404
    assert f"{ROWS} rows" in answer.json()["detail"]


def test_the_report_holds_the_means_of_the_scalar_form(client, scored):
    report = client.get(f"/v1/jobs/{scored}/report").json()

    for place, line in enumerate(report["checkpoints"]):
        until = [history(row)[: place + 1] for row in range(ROWS)]
        scores = [pre_memorization_accuracy(seen, memorized_below=MEMORIZED_BELOW) for seen in until]
        assert line["examples"] == ROWS
        assert line["pre_memorization_accuracy"] == pytest.approx(sum(scores) / ROWS)
        assert line["train_accuracy"] == pytest.approx(sum(seen[-1].accuracy for seen in until) / ROWS)
        assert line["memorized"] == pytest.approx(sum(seen[-1].perplexity < MEMORIZED_BELOW for seen in until) / ROWS)
        assert line["test_examples"] == 10
        assert line["test_accuracy"] == pytest.approx(sum(history(row)[place].accuracy for row in range(10)) / 10)
    assert report["skipped"] == 0
    assert report["tie_order"][0].startswith("pre-memorization accuracy")
    assert report["produced_by"] == PRODUCED_BY


def test_a_skipped_example_has_no_score_and_is_counted(client, post_job):
    job = post_job(shard_rows=12)
    task = must_lease(client)
    rows = [RowResult(row=row, skipped="too long for the model's context") for row in (3, 4)]
    whole = result(task, lambda name, row: Observation(1, 2, 2.0))
    put(client, task, _replacing(whole, rows))
    work_off(client)

    finished = ended(client, job)
    items = all_examples(client, job, limit=1000)
    report = client.get(f"/v1/jobs/{job}/report").json()
    missing = client.get(f"/v1/jobs/{job}/examples/3")

    assert finished["counts"]["skipped"] == 2
    assert {item["row"] for item in items} == set(range(12)) - {3, 4}
    assert report["skipped"] == 2
    assert report["skipped_reasons"] == {"too long for the model's context": 2}
    assert report["checkpoints"][0]["examples"] == 10
    assert report["checkpoints"][1]["examples"] == 12
    assert missing.status_code == 404
    assert "too long" in missing.json()["detail"]
    assert any("2 training examples were skipped" in warning for warning in finished["warnings"])


@on_sqlite
def test_a_job_of_which_every_example_is_skipped_fails_with_the_reason(client, post_job):
    job = post_job(shard_rows=12, checkpoints=[{"path": "/runs/1"}])
    task = must_lease(client)
    rows = [RowResult(row=row, skipped="too long for the model's context") for row in range(12)]

    put(client, task, encode(rows, produced_by=PRODUCED_BY))
    finished = ended(client, job)

    assert finished["state"] == "failed"
    assert finished["errors"] == ["no example was scored (12: too long for the model's context)"]


@on_sqlite
def test_results_of_different_engines_are_told(client, post_job):
    job = post_job(shard_rows=12)
    for engine in ("vllm", "transformers"):
        task = must_lease(client)
        put(client, task, result(task, lambda name, row: Observation(1, 2, 2.0), engine=engine))

    finished = ended(client, job)

    assert "results come from more than one engine: transformers, vllm" in finished["warnings"]


def _replacing(content: bytes, rows: list[RowResult]) -> bytes:
    frame = pl.read_parquet(io.BytesIO(content))
    new = pl.DataFrame([row.as_record() for row in rows], schema=SCHEMA)
    out = io.BytesIO()
    kept = frame.filter(~pl.col("row").is_in(new["row"].implode()))
    pl.concat([kept, new]).sort("row").write_parquet(out, metadata=metadata(PRODUCED_BY))
    return out.getvalue()
