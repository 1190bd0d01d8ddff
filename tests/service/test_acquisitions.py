"""Acquiring by embedding: a job whose tasks embed the low examples and the pool."""

from __future__ import annotations

import pytest

from premem.embeddings import Embedding, encode
from premem.records import Observation
from tests.service.conftest import on_sqlite, upload
from tests.service.working import PRODUCED_BY, ended, fail, lease, put, work_off

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
        "1 rows could not be embedded, too long for the model's context",
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
    assert state["errors"] == ["no low example could be embedded: all are too long for the model"]


@on_sqlite
def test_it_can_be_cancelled(client, scored, pool):
    job = acquire(client, scored, pool)

    assert client.post(f"/v1/jobs/{job}/cancel").status_code == 202
    assert ended(client, job)["state"] == "cancelled"
    assert lease(client) is None
