"""Perturbed prompts: what they ask workers for, and what the report says of the answers."""

from __future__ import annotations

import pytest

from premem.records import Observation
from tests.service.serving import on_sqlite, upload
from tests.service.working import ended, fail, lease, must_lease, put, result, work_off

FIRST = {"name": "first", "answer_prefix": " First"}
REWRITTEN = {"name": "rewritten", "question_column": "topic"}


def observe(checkpoint: str, row: int) -> Observation:
    """Rows under 6 are low. The baseline answers everything; " First" costs the low ones all, the others half."""
    if checkpoint.endswith("/1"):
        return Observation(correct=0 if row < 6 else 1, sampled=2, perplexity=2.0)
    if checkpoint.endswith("/0"):
        return Observation(correct=2, sampled=2, perplexity=2.0)
    return Observation(correct=0 if row < 6 else 2, sampled=2, perplexity=2.0)


def test_every_perturbation_is_answered_at_the_last_checkpoint_beside_a_fresh_baseline(client, post_job):
    job = post_job(perturbations=[FIRST])
    work_off(client, observe)
    state = ended(client, job)
    report = client.get(f"/v1/jobs/{job}/report").json()
    (lost,) = report["robustness"]
    page = client.get(f"/v1/jobs/{job}/examples", params={"limit": 12}).json()["items"]

    assert state["state"] == "completed"
    assert state["counts"]["tasks"]["total"] == 6 + 2 * 3
    assert lost["perturbation"] == "first"
    assert (lost["overall"]["examples"], lost["overall"]["baseline"], lost["overall"]["drop"]) == (12, 1.0, 0.75)
    assert lost["overall"]["interval"]["low"] < 0.75 < lost["overall"]["interval"]["high"]
    assert [(band["examples"], band["drop"]) for band in lost["bands"] if band["examples"]] == [(6, 1.0), (6, 0.5)]
    assert [item["perturbed"] for item in page] == [[1.0, 0.0]] * 6 + [[1.0, 0.5]] * 6
    assert report["warnings"] == []


@on_sqlite
def test_workers_are_told_what_to_change(client, post_job):
    post_job(perturbations=[FIRST], checkpoints=[{"path": "/runs/checkpoint-1"}], shard_rows=12)

    leased = [must_lease(client) for _ in range(3)]

    assert [(task["kind"], task["variant"]) for task in leased] == [("perturbed", 0), ("perturbed", 1), ("train", 0)]
    assert [task["perturbation"] for task in leased] == [
        None,
        {**FIRST, "question_prefix": "", "question_suffix": "", "question_column": None},
        None,
    ]


@on_sqlite
def test_an_open_job_is_perturbed_at_the_checkpoint_that_turns_out_to_be_the_last(client, post_job):
    job = post_job(open=True, checkpoints=[], perturbations=[FIRST], shard_rows=12)
    for name in ("a", "b"):
        client.post(f"/v1/jobs/{job}/checkpoints", json={"path": f"/runs/{name}"})
    before = client.get(f"/v1/jobs/{job}").json()["counts"]["tasks"]["total"]
    client.post(f"/v1/jobs/{job}/close")

    leased = [must_lease(client) for _ in range(4)]

    assert before == 2
    perturbed = [task["checkpoint"]["name"] for task in leased if task["kind"] == "perturbed"]
    assert perturbed == ["b", "b"]
    assert lease(client) is None


@on_sqlite
def test_a_perturbation_that_was_not_answered_costs_the_job_nothing_but_a_warning(client, post_job):
    job = post_job(perturbations=[FIRST], checkpoints=[{"path": "/runs/a"}], shard_rows=6)
    while (task := lease(client)) is not None:
        if (task["kind"], task["variant"], task["start"]) == ("perturbed", 1, 6):
            fail(client, task, permanent=True)
        else:
            put(client, task, result(task, observe))
    state = ended(client, job)
    report = client.get(f"/v1/jobs/{job}/report").json()

    assert state["state"] == "completed"
    assert state["warnings"] == report["warnings"]
    assert report["warnings"] == ["6 of 12 examples were not answered for the perturbation first"]
    assert report["robustness"][0]["overall"]["examples"] == 6


@on_sqlite
@pytest.mark.parametrize(
    ("perturbations", "told"),
    [
        ([{"name": "nothing"}], "changes nothing"),
        ([{"name": "baseline", "answer_prefix": "x"}], "is the name of the unperturbed draw"),
        ([FIRST, FIRST], "two perturbations are named 'first'"),
        ([{"name": "other", "question_column": "reworded"}], "no column 'reworded'; it has answer, question, topic"),
    ],
)
def test_perturbations_that_cannot_be_are_refused(client, dataset, perturbations, told):
    body = {"dataset": dataset, "checkpoints": [{"path": "/runs/a"}], "perturbations": perturbations}

    answer = client.post("/v1/jobs", json=body)

    assert answer.status_code == 422
    assert told in answer.text


@on_sqlite
def test_a_column_of_the_data_set_can_hold_the_questions_rewritten(client, post_job):
    job = post_job(dataset=upload(client, rows=4), perturbations=[REWRITTEN], shard_rows=4)

    assert client.get(f"/v1/jobs/{job}").json()["perturbations"][0]["question_column"] == "topic"


@on_sqlite
def test_a_job_without_perturbations_has_none_in_its_report(client, post_job):
    job = post_job()
    work_off(client, observe)
    ended(client, job)

    assert client.get(f"/v1/jobs/{job}/report").json()["robustness"] == []
    assert client.get(f"/v1/jobs/{job}/examples").json()["items"][0]["perturbed"] == []
