"""What a job has found before it has ended."""

from __future__ import annotations

from premem.records import Observation
from tests.service.serving import on_sqlite
from tests.service.working import ended, work_off

pytestmark = on_sqlite


def learning(checkpoint: str, row: int) -> Observation:
    """Half right at first; all right, and half of them by heart, at the second."""
    if checkpoint == "checkpoint-1":
        return Observation(correct=row % 2 * 2, sampled=2, perplexity=2.0)
    return Observation(correct=2, sampled=2, perplexity=1.05 if row < 6 else 1.5)


def test_an_open_job_tells_of_the_checkpoints_that_are_done(client, post_job):
    job = post_job(open=True, checkpoints=[{"path": "/runs/checkpoint-1"}])
    before = client.get(f"/v1/jobs/{job}/so-far").json()
    work_off(client, learning)
    client.post(f"/v1/jobs/{job}/checkpoints", json={"path": "/runs/checkpoint-2"})

    first = client.get(f"/v1/jobs/{job}/so-far").json()

    assert before["checkpoints"] == []
    assert first["state"] == "running"
    assert [line["checkpoint"] for line in first["checkpoints"]] == ["checkpoint-1"]
    assert first["checkpoints"][0]["pre_memorization_accuracy"] == 0.5


def test_the_last_that_is_said_of_an_open_job_is_what_its_report_says(client, post_job):
    job = post_job(open=True)
    work_off(client, learning)
    open_ = client.get(f"/v1/jobs/{job}/so-far").json()
    client.post(f"/v1/jobs/{job}/close")
    ended(client, job)

    completed = client.get(f"/v1/jobs/{job}/so-far").json()

    assert open_["checkpoints"] == client.get(f"/v1/jobs/{job}/report").json()["checkpoints"]
    assert completed["checkpoints"] == open_["checkpoints"]
    # Rows 0 to 5 are memorized at the second and keep what they had: three of them 1, three 0.
    assert open_["checkpoints"][1]["pre_memorization_accuracy"] == (3 * 1 + 3 * 0 + 6 * 1) / 12


def test_a_threshold_from_the_first_checkpoint_is_said_as_soon_as_that_is_done(client, post_job):
    job = post_job(open=True, memorized_below=None)
    before = client.get(f"/v1/jobs/{job}/so-far").json()

    work_off(client, learning)

    assert before["threshold"]["memorized_below"] is None
    assert client.get(f"/v1/jobs/{job}/so-far").json()["threshold"]["memorized_below"] == 2.0


def test_there_is_nothing_of_a_job_that_there_is_not(client):
    assert client.get("/v1/jobs/job_none/so-far").status_code == 404
