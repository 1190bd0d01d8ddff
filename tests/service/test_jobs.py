"""The life of a job, through HTTP."""

from __future__ import annotations

from tests.service.working import always_right, ended, must_lease, put, result, work_off


def test_a_job_goes_from_queued_to_completed(client, post_job):
    job = post_job()
    queued = client.get(f"/v1/jobs/{job}").json()
    task = must_lease(client)
    running = client.get(f"/v1/jobs/{job}").json()
    assert put(client, task, result(task, always_right)).status_code == 200

    done = work_off(client)
    completed = ended(client, job)

    assert (queued["state"], running["state"], completed["state"]) == ("queued", "running", "completed")
    assert done == 5
    assert completed["counts"]["tasks"]["completed"] == completed["counts"]["tasks"]["total"] == 6
    assert completed["counts"]["examples"] == completed["counts"]["examples_total"] == 24
    assert completed["counts"]["samples"] == 48
    assert completed["counts"]["tokens"] == 24 * (5 + 2 * 3)
    assert [checkpoint["state"] for checkpoint in completed["checkpoints"]] == ["completed", "completed"]
    assert completed["seconds_left"] == 0
