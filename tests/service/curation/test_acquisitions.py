"""Acquiring by embedding: a job whose tasks embed the low examples and the pool."""

from __future__ import annotations

import io
import threading

import numpy as np
import polars as pl
import pytest

from premem.curation.acquisition import acquire as acquire_arrays
from premem.payloads.embeddings import SCHEMA, Embedding, encode
from premem.payloads.results import metadata
from premem.records import Observation
from premem_service import garbage
from premem_service.curation import acquisitions, candidates
from premem_service.queue import finalizing
from tests.service.recording import imported, made_run
from tests.service.serving import on_sqlite, upload
from tests.service.working import PRODUCED_BY, ended, fail, lease, must_lease, put, work_off

POOL = 900


def observe(checkpoint: str, row: int) -> Observation:
    """Rows 0 to 3 are low."""
    return Observation(correct=0 if row < 4 else 2, sampled=2, perplexity=2.0)


@pytest.fixture
def scored(client, post_job) -> str:
    job = post_job()
    work_off(client, observe)
    ended(client, job)
    return job


@pytest.fixture
def pool(client) -> str:
    """Eight questions, from 900 + 1 on."""
    return upload(client, rows=8, offset=POOL)


def acquire(client, job: str, pool: str, **asked) -> str:
    answer = client.post(f"/v1/jobs/{job}/acquire", json={"pool": pool, "by": "embedding", "budget": 3, **asked})
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
    return answer.json()["id"]


def vector(variant: int, row: int) -> tuple[float, float]:
    """Low examples point right, row 2 up; of the pool rows 5 and 6 are like them, 6 like row 2; the rest point away."""
    if variant == 0:
        return (0.0, 5.0) if row == 2 else (5.0, 0.0)
    return {5: (4.0, 0.1), 6: (0.2, 4.0)}.get(row, (-3.0, -3.0))


def with_null(task) -> bytes:
    """A result in which one number is missing."""
    whole = encode([Embedding(row, (1.0, 2.0)) for row in range(4)], produced_by=PRODUCED_BY)
    frame = pl.read_parquet(io.BytesIO(whole)).with_columns(
        pl.Series("embedding", [[1.0, None]] * 4, SCHEMA["embedding"])
    )
    out = io.BytesIO()
    frame.write_parquet(out, metadata=metadata(PRODUCED_BY))
    return out.getvalue()


def embed_all(client, *, skip: tuple[int, ...] = ()) -> list[tuple[int, int, int]]:
    done = []
    while (task := lease(client)) is not None:
        assert task["kind"] == "embed"
        rows = [
            Embedding(row, None, skipped="too long")
            if task["variant"] == 1 and row in skip
            else Embedding(row, vector(task["variant"], row), tokens=7)
            for row in range(task["start"], task["stop"])
        ]
        assert put(client, task, encode(rows, produced_by=PRODUCED_BY)).status_code == 200
        done.append((task["variant"], task["start"], task["stop"]))
    return done


def test_the_candidates_nearest_to_low_examples_come_first(client, scored, pool):
    job = acquire(client, scored, pool)
    done = embed_all(client)
    state = ended(client, job)
    found = client.get(f"/v1/jobs/{job}/candidates").json()

    # Four rows per task: of the training set only the first task holds low examples.
    assert done == [(0, 0, 4), (1, 0, 4), (1, 4, 8)]
    assert (state["state"], state["kind"], state["parent"], state["dataset"]) == ("completed", "acquire", scored, pool)
    assert [one["name"] for one in state["checkpoints"]] == ["checkpoint-2"]
    assert state["counts"]["tokens"] == 12 * 7
    assert {one["row"] for one in found["candidates"][:2]} == {5, 6}
    nearest = {one["row"]: one["nearest"]["row"] for one in found["candidates"]}
    assert nearest[6] == 2
    assert nearest[5] in {0, 1, 3}
    assert found["candidates"][0]["columns"]["question"].startswith("What is 90")
    assert (found["by"], found["low"], found["left_out"], found["notes"]) == ("embedding", 4, 0, [])


@on_sqlite
def test_what_was_trained_on_already_or_does_not_fit_is_no_candidate(client, scored):
    overlapping = upload(client, rows=10, offset=6)  # six of them are in the training set
    job = acquire(client, scored, overlapping, budget=10)
    embed_all(client, skip=(7,))
    ended(client, job)

    found = client.get(f"/v1/jobs/{job}/candidates").json()

    assert sorted(one["row"] for one in found["candidates"]) == [6, 8, 9]
    assert found["left_out"] == 6
    assert found["notes"] == [
        "the pool holds 4 new examples, fewer than the budget of 10: all are here",
        "1 new examples of the pool could not be embedded (1: too long)",
    ]


@on_sqlite
def test_a_job_that_acquires_is_no_job_that_scores(client, scored, pool):
    job = acquire(client, scored, pool)

    early = client.get(f"/v1/jobs/{job}/candidates")
    scores = client.get(f"/v1/jobs/{job}/examples")
    other = client.get(f"/v1/jobs/{scored}/candidates")
    regraded = client.post(f"/v1/jobs/{job}/regrade", json={"grader": {"name": "exact"}})

    assert (early.status_code, "is queued" in early.text) == (409, True)
    assert (scores.status_code, "acquires examples" in scores.text) == (409, True)
    assert (other.status_code, "acquires nothing" in other.text) == (409, True)
    assert regraded.status_code == 409
    assert client.get("/v1/jobs/job_0/candidates").status_code == 404


@on_sqlite
def test_a_checkpoint_that_cannot_embed_fails_the_job_with_its_reason(client, scored, pool):
    job = acquire(client, scored, pool)
    fail(client, lease(client), "the folder is gone", permanent=True, checkpoint=True)

    state = ended(client, job)

    assert state["state"] == "failed"
    assert "the folder is gone" in str(state["errors"])


@on_sqlite
def test_embeddings_that_cannot_be_are_refused(client, scored, pool):
    acquire(client, scored, pool)
    task = lease(client)

    rows = [Embedding(row, (1.0,) * (1 + row % 2)) for row in range(4)]
    uneven = put(client, task, encode(rows, produced_by=PRODUCED_BY))
    infinite = put(client, task, encode([Embedding(row, (float("inf"),)) for row in range(4)], produced_by=PRODUCED_BY))
    short = put(client, task, encode([Embedding(0, (1.0,))], produced_by=PRODUCED_BY))

    hollow = put(client, task, with_null(task))

    assert (hollow.status_code, "finite" in hollow.text) == (422, True)
    assert (uneven.status_code, "one width" in uneven.text) == (422, True)
    assert (infinite.status_code, "finite" in infinite.text) == (422, True)
    assert (short.status_code, "each row from 0 to 3" in short.text) == (422, True)


@on_sqlite
def test_a_job_in_which_no_low_example_can_be_embedded_says_so(client, scored, pool):
    job = acquire(client, scored, pool)
    while (task := lease(client)) is not None:
        rows = [Embedding(row, None, skipped="too long") for row in range(task["start"], task["stop"])]
        put(client, task, encode(rows, produced_by=PRODUCED_BY))

    state = ended(client, job)

    assert state["state"] == "failed"
    assert state["errors"] == ["no low example could be embedded (4: too long)"]


@on_sqlite
def test_it_can_be_cancelled(client, scored, pool):
    job = acquire(client, scored, pool)

    assert client.post(f"/v1/jobs/{job}/cancel").status_code == 202
    assert ended(client, job)["state"] == "cancelled"
    assert lease(client) is None


def test_the_candidates_are_those_of_the_method_over_centred_embeddings(client, post_job, pool):
    """Row 0, 5 and 10 of twelve are low, so that every task holds some of the rest."""
    job = post_job()
    work_off(client, lambda name, row: Observation(correct=0 if row % 5 == 0 else 2, sampled=2, perplexity=2.0))
    ended(client, job)
    chance = np.random.default_rng(0)
    trained_ED, pool_ND = chance.normal(size=(12, 6)) + 50, chance.normal(size=(8, 6)) + 50
    low = [0, 5, 10]
    mean_D = np.concatenate([trained_ED[low], pool_ND]).mean(axis=0)
    rest_RD = np.delete(trained_ED, low, axis=0) - mean_D
    expected = acquire_arrays(trained_ED[low] - mean_D, pool_ND - mean_D, budget=5, rest_RD=rest_RD)

    acquiring = acquire(client, job, pool, budget=5)
    while (task := lease(client)) is not None:
        of = (trained_ED, pool_ND)[task["variant"]]
        rows = [Embedding(row, tuple(of[row]), tokens=3) for row in range(task["start"], task["stop"])]
        put(client, task, encode(rows, produced_by=PRODUCED_BY))
    ended(client, acquiring)
    found = client.get(f"/v1/jobs/{acquiring}/candidates").json()["candidates"]

    assert [one["row"] for one in found] == [one.position for one in expected]
    assert [low.index(one["nearest"]["row"]) for one in found] == [one.nearest for one in expected]
    assert [one["similarity"] for one in found] == pytest.approx([one.similarity for one in expected], abs=1e-4)
    assert [one["likeness"] for one in found] == pytest.approx([one.likeness for one in expected], abs=1e-3)


def test_a_finalizing_that_broke_off_starts_again(client, scored, pool, monkeypatch):
    monkeypatch.setattr(finalizing, "RETRY_SECONDS", 0.01)
    broken = threading.Event()
    mean = candidates._mean

    def breaks_once(*given):
        if not broken.is_set():
            broken.set()
            raise OSError("the store is away")
        return mean(*given)

    monkeypatch.setattr(candidates, "_mean", breaks_once)
    job = acquire(client, scored, pool)
    embed_all(client)

    assert ended(client, job)["state"] == "completed"
    assert broken.is_set()
    assert len(client.get(f"/v1/jobs/{job}/candidates").json()["candidates"]) == 3


@on_sqlite
def test_embeddings_are_garbage_once_they_were_compared(client, app, scored, pool):
    job = acquire(client, scored, pool)
    done = embed_all(client)
    ended(client, job)
    found = client.get(f"/v1/jobs/{job}/candidates").json()
    store = app.state.store
    before = {artifact.name for artifact in store.list("")}

    garbage.collect(app.state.database, store, app.state.settings.model_copy(update={"garbage_seconds": -1.0}))

    gone = before - {artifact.name for artifact in store.list("")}
    assert len(gone) == len(done)
    assert all(name.startswith("results/") for name in gone)
    assert client.get(f"/v1/jobs/{job}/candidates").json() == found
    assert client.get(f"/v1/jobs/{scored}/examples/3").status_code == 200


@on_sqlite
def test_the_same_key_makes_one_job(client, scored, pool):
    body = {"pool": pool, "by": "embedding"}
    answers = [client.post(f"/v1/jobs/{scored}/acquire", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert answers[0].headers["Location"] == answers[1].headers["Location"]


@on_sqlite
def test_what_cannot_be_acquired_is_refused_before_any_job_is_made(client, scored, pool, post_job):
    running = post_job()
    trained_on = client.get(f"/v1/jobs/{scored}").json()["dataset"]
    known = upload(client, rows=3, offset=4)
    recorded = imported(client, made_run(1, examples=20), upload(client, rows=20, offset=50))
    before = len(client.get("/v1/jobs").json()["items"])

    def ask(job: str, pool: str, **asked):
        return client.post(f"/v1/jobs/{job}/acquire", json={"pool": pool, "by": "embedding", **asked})

    answers = {
        (422, "there is no data set 'ds_none'"): ask(scored, "ds_none"),
        (422, "was trained on"): ask(scored, trained_on),
        (422, "in the training set already"): ask(scored, known),
        (422, "no example is low"): ask(scored, pool, below=0.0),
        (422, "tfidf"): ask(scored, pool, by="words"),
        (409, "is queued"): ask(running, pool),
        (409, "acquire by tfidf"): ask(recorded, pool, below=1.0),
        (404, "job_none"): ask("job_none", pool),
    }

    for (status, told), answer in answers.items():
        assert (answer.status_code, told in answer.json()["detail"]) == (status, True), answer.text
    assert len(client.get("/v1/jobs").json()["items"]) == before
    assert ask(recorded, pool, below=1.0, by="tfidf").status_code == 200


@on_sqlite
def test_large_shards_of_the_scoring_make_no_large_results(client, post_job, pool, monkeypatch):
    monkeypatch.setattr(acquisitions, "MOST_SHARD_ROWS", 5)
    job = post_job(shard_rows=12)
    work_off(client, observe)
    ended(client, job)

    acquiring = acquire(client, job, pool)

    assert embed_all(client) == [(0, 0, 5), (1, 0, 5), (1, 5, 8)]
    assert ended(client, acquiring)["state"] == "completed"


@on_sqlite
@pytest.mark.parametrize("narrow", [0, 1])
def test_embeddings_of_different_width_are_not_compared(client, scored, pool, narrow):
    job = acquire(client, scored, pool)
    while (task := lease(client)) is not None:
        width = 2 if task["variant"] == narrow else 3
        rows = [Embedding(row, (1.0,) * width, tokens=1) for row in range(task["start"], task["stop"])]
        put(client, task, encode(rows, produced_by=PRODUCED_BY))

    assert "differ in width" in ended(client, job)["errors"][0]


@on_sqlite
def test_a_job_in_which_no_candidate_can_be_embedded_says_so(client, scored, pool):
    job = acquire(client, scored, pool)
    embed_all(client, skip=tuple(range(8)))

    assert ended(client, job)["errors"] == ["no new example of the pool could be embedded (8: too long)"]


@on_sqlite
def test_a_result_that_comes_after_the_cancelling_is_not_wanted(client, scored, pool):
    job = acquire(client, scored, pool)
    task = must_lease(client)
    client.post(f"/v1/jobs/{job}/cancel")

    rows = [Embedding(row, (1.0,), tokens=1) for row in range(task["start"], task["stop"])]
    late = put(client, task, encode(rows, produced_by=PRODUCED_BY))
    client.post(f"/v1/tasks/{task['id']}/release", json={"attempt": task["attempt"]})

    assert (late.status_code, "was cancelled" in late.text) == (409, True)
    assert ended(client, job)["state"] == "cancelled"
    assert "is cancelled" in client.get(f"/v1/jobs/{job}/candidates").json()["detail"]


@on_sqlite
def test_another_tokenizer_fails_the_checkpoint(client, scored, pool):
    job = acquire(client, scored, pool)
    task = must_lease(client)
    rows = [Embedding(row, (1.0,), tokens=1) for row in range(task["start"], task["stop"])]

    answer = put(client, task, encode(rows, produced_by={**PRODUCED_BY, "tokenizer": "t2"}))

    errors = ended(client, job)["errors"]
    assert answer.status_code == 409
    assert errors[0] == "the prompts could not be embedded"
    assert "another tokenizer" in errors[1]
