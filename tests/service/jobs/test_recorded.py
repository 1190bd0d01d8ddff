"""Runs that others recorded, as jobs like any other."""

from __future__ import annotations

import io
import json

import numpy as np
import polars as pl
import pytest
from sqlalchemy import update

from premem.method.memorization import pre_memorization_accuracies
from premem.payloads.recordings import METADATA, SCHEMA, described, encode
from premem_service import garbage
from premem_service.storage.tables import jobs
from tests.service.recording import LINE, MODEL, SAMPLES, imported, made_run, post_recorded
from tests.service.serving import upload
from tests.service.working import ended

ROWS = 40


@pytest.fixture
def questions(client) -> str:
    return upload(client, rows=ROWS)


def test_a_recorded_run_becomes_a_completed_job_with_its_scores(client, questions):
    run = made_run(1, examples=ROWS)

    job = imported(client, run, questions, memorized_below=LINE)

    found = client.get(f"/v1/jobs/{job}").json()
    page = client.get(f"/v1/jobs/{job}/examples", params={"limit": 1000}).json()
    expected_E = pre_memorization_accuracies(run.accuracy_CE, run.perplexity_CE, memorized_below=LINE)[-1]
    assert (found["recorded"], found["task"], found["learning_rate"]) == (True, "sums", 1e-5)
    assert [line["state"] for line in found["checkpoints"]] == ["completed"] * 3
    assert found["counts"]["examples"] == found["counts"]["examples_total"] == 3 * ROWS
    assert {item["row"]: item["pre_memorization_accuracy"] for item in page["items"]} == pytest.approx(
        dict(enumerate(expected_E.tolist()))
    )
    assert [line["test_examples"] for line in client.get(f"/v1/jobs/{job}/report").json()["checkpoints"]] == [100] * 3
    assert int(client.get(f"/v1/jobs/{job}/curated", params={"below": 0.5}).headers["X-Premem-Rows"]) == int(
        (expected_E < 0.5).sum()
    )


def test_one_example_of_it_says_by_its_absence_that_no_answer_was_recorded(client, questions):
    run = made_run(1, examples=ROWS)
    job = imported(client, run, questions)

    example = client.get(f"/v1/jobs/{job}/examples/7").json()

    assert example["question"] == "What is 7 + 1?"
    assert [answers["answers"] for answers in example["checkpoints"]] == [[], [], []]
    assert [answers["perplexity"] for answers in example["checkpoints"]] == run.perplexity_CE[:, 7].tolist()
    assert example["copied"] == [None] * 3
    assert example["interval"]["low"] <= example["pre_memorization_accuracy"] <= example["interval"]["high"]


def test_a_run_on_a_part_scores_the_rows_it_was_trained_on(client, questions):
    job = imported(client, made_run(1, examples=3, row_E=[2, 30, 5]), questions)

    rows = {item["row"] for item in client.get(f"/v1/jobs/{job}/examples").json()["items"]}
    report = client.get(f"/v1/jobs/{job}/report").json()
    elsewhere = client.get(f"/v1/jobs/{job}/examples/3")

    assert rows == {2, 5, 30}
    assert (report["skipped"], report["checkpoints"][0]["examples"]) == (0, 3)
    assert elsewhere.status_code == 404
    assert "not trained on it" in elsewhere.json()["detail"]


def test_without_a_threshold_the_first_checkpoint_gives_it_as_for_any_job(client, questions):
    job = imported(client, made_run(1, examples=ROWS), questions)

    assert client.get(f"/v1/jobs/{job}").json()["threshold"]["basis"] == "quantile"


def changed(**columns) -> bytes:
    frame = {"row": [0, 1], "accuracy": [[0.5, 1.0], [0.0, 0.5]], "perplexity": [[2.0, 1.5], [1.1, 1.2]], **columns}
    about = {"dataset": "{dataset}", "model": MODEL, "samples": 2, "checkpoints": [{"name": "a"}, {"name": "b"}]}
    out = io.BytesIO()
    pl.DataFrame(frame, schema=SCHEMA).write_parquet(out, metadata={METADATA: json.dumps(about)})
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no Parquet", "no Parquet file"),
        (changed(row=[0, 0]), "each example once"),
        (changed(row=[-1, 0]), "from 0"),
        (changed(row=[None, 0]), "each example once"),
        (changed(accuracy=[[0.5], [0.0]]), "accuracy needs 2 numbers in every row"),
        (changed(accuracy=[[0.5, None], [0.0, 0.0]]), "row 0 at b: accuracy nan"),
        (changed(accuracy=[[0.5, 1.0], [0.3, 0.5]]), "row 1 at a: accuracy 0.3 is no share of 2 answers"),
        (changed(perplexity=[[2.0, 1.5], [0.9, 1.2]]), "row 1 at a: perplexity 0.9"),
        (changed(perplexity=[[2.0, float("nan")], [1.1, 1.2]]), "row 0 at b: perplexity nan"),
        (changed(perplexity=[[2.0, float("inf")], [1.1, 1.2]]), "row 0 at b: perplexity inf"),
        (changed(row=[], accuracy=[], perplexity=[]), "holds no example"),
        (changed(), "there is no data set '{dataset}'"),
    ],
)
def test_a_recording_that_cannot_be_is_refused_and_nothing_kept(client, content, message):
    answer = client.post("/v1/recorded", content=content)

    assert answer.status_code == 422
    assert message in answer.json()["detail"]
    assert client.get("/v1/jobs").json()["items"] == []
    assert list(client.app.state.store.list("recorded")) == []


def test_metadata_that_is_missing_or_wrong_is_named(client):
    run = made_run(1, examples=2)
    bare, wrong = io.BytesIO(), io.BytesIO()
    frame = pl.read_parquet(io.BytesIO(encode(run, described(run, dataset="d", model=MODEL))))
    frame.write_parquet(bare)
    frame.write_parquet(wrong, metadata={METADATA: json.dumps({"dataset": "d", "model": MODEL, "samples": 0})})

    answers = [client.post("/v1/recorded", content=file.getvalue()) for file in (bare, wrong)]

    assert [answer.status_code for answer in answers] == [422, 422]
    assert METADATA in answers[0].json()["detail"]
    assert "checkpoints" in answers[1].json()["detail"]


def test_rows_that_the_data_set_does_not_have_are_refused(client, questions):
    answer = post_recorded(client, made_run(1, examples=1, row_E=[ROWS]), questions)

    assert answer.status_code == 422
    assert f"names row {ROWS}" in answer.json()["detail"]


def test_the_recording_is_no_garbage_while_its_job_names_it(client, app, questions, settings):
    job = imported(client, made_run(1, examples=ROWS), questions)
    hungry = settings.model_copy(update={"garbage_seconds": -60.0})

    garbage.collect(app.state.database, app.state.store, hungry)
    kept = [artifact.name for artifact in app.state.store.list("recorded")]
    with app.state.database.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job).values(recorded=None))
    garbage.collect(app.state.database, app.state.store, hungry)

    assert len(kept) == 1
    assert list(app.state.store.list("recorded")) == []


def test_a_recorded_run_takes_no_tasks_and_no_checkpoints(client, questions):
    job = imported(client, made_run(1, examples=ROWS), questions)

    assert client.post("/v1/tasks/lease", json={"worker": "w", "engine": "fake"}).status_code == 204
    assert client.post(f"/v1/jobs/{job}/checkpoints", json={"path": "/runs/more"}).status_code == 409
    assert ended(client, job)["counts"]["samples"] == 3 * ROWS * SAMPLES
    assert np.isclose(client.get(f"/v1/jobs/{job}").json()["seconds_left"], 0)
