"""What the report says of the examples that were added since the round before."""

from __future__ import annotations

import pytest

from premem.records import Observation
from tests.service.serving import on_sqlite, upload
from tests.service.working import ended, work_off


def weak(checkpoint: str, row: int) -> Observation:
    """Solves the rows from 4 on."""
    return Observation(correct=2 * (row >= 4), sampled=2, perplexity=2.0)


def better(checkpoint: str, row: int) -> Observation:
    """Solves the rows from 2 on, and half of what was added after the first eight."""
    return Observation(correct=1 if row >= 8 else 2 * (row >= 2), sampled=2, perplexity=2.0)


def test_the_same_examples_are_compared_and_the_added_ones_told_apart(client, post_job):
    test = upload(client, rows=4, offset=900)
    before = post_job(dataset=upload(client, rows=10), test_dataset=test)
    work_off(client, weak)
    ended(client, before)
    # Two rows went, in front of the others; four are new.
    after = post_job(dataset=upload(client, rows=12, offset=2), test_dataset=test, previous=before)
    work_off(client, better)
    state = ended(client, after)

    found = client.get(f"/v1/jobs/{after}/report").json()["changes"]

    assert state["previous"] == before
    assert (found["previous"], found["kept"], found["added"], found["dropped"]) == (before, 8, 4, 2)
    # The kept ones were rows 2 to 9 and are rows 0 to 7: then 2 of 8 failed, and now 2 of 8.
    assert (found["kept_before"], found["kept_after"]) == (0.75, 0.75)
    assert (found["low_before"], found["low_solved"]) == (2, 0)
    assert found["change"] == {"low": 0.0, "high": 0.0}
    assert found["added_score"] == 0.5
    assert (found["test_before"], found["test_after"]) == (0.0, 0.5)
    assert found["notes"] == []


@on_sqlite
def test_whatever_else_differs_is_noted(client, post_job):
    before = post_job(test_dataset=upload(client, rows=4, offset=900))
    work_off(client, weak)
    ended(client, before)
    after = post_job(previous=before, grader={"name": "exact"}, memorized_below=1.5, sampling={"samples": 2, "seed": 1})
    work_off(client, better)
    ended(client, after)

    found = client.get(f"/v1/jobs/{after}/report").json()["changes"]

    assert (found["low_before"], found["low_solved"]) == (4, 2)
    assert found["change"]["low"] < found["kept_after"] - found["kept_before"] < found["change"]["high"]
    assert found["test_before"] is None
    assert found["notes"] == [
        f"how answers are sampled differs from that of job {before}",
        f"the grader differs from that of job {before}",
        "the threshold differs: 1.5000 now, 1.2000 then",
        "the test sets differ, so the two test accuracies are not compared",
    ]


@on_sqlite
@pytest.mark.parametrize("previous", ["job_0", None])
def test_a_round_before_that_has_no_scores_is_refused(client, dataset, post_job, previous):
    named = previous or post_job()

    answer = client.post("/v1/jobs", json={"dataset": dataset, "checkpoints": [{"path": "/runs/a"}], "previous": named})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "previous"
