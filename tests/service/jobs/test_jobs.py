"""The life of a job, through HTTP."""

from __future__ import annotations

import json
import threading

import pytest

from premem_service.queue import finalizing
from tests.service.serving import on_sqlite, upload
from tests.service.working import always_right, ended, fail, must_lease, put, result, work_off


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
    assert completed["tokens_per_second"] is None  # these results tell no seconds
    assert queued["started_at"] is None
    assert running["created_at"] <= running["started_at"] <= completed["finished_at"]


def test_what_the_engines_did_is_summed_over_the_results_that_tell(client, post_job):
    job = post_job()
    for took in ({"prompt_tokens": "100", "cached_tokens": "60", "engine_seconds": "1.5"}, {}, {"prompt_tokens": "10"}):
        task = must_lease(client)
        assert put(client, task, result(task, always_right, **took)).status_code == 200
    task = must_lease(client)
    refused = put(client, task, result(task, always_right, engine_seconds="long"))

    seen = client.get(f"/v1/jobs/{job}").json()
    counts = seen["counts"]

    assert {name: counts[name] for name in ("prompt_tokens", "cached_tokens", "engine_seconds")} == {
        "prompt_tokens": 110,
        "cached_tokens": 60,
        "engine_seconds": 1.5,
    }
    assert seen["tokens_per_second"] == 4 * (5 + 2 * 3) / 1.5  # the first result's: the others tell no seconds
    assert refused.status_code == 422
    assert "engine_seconds in the result's metadata must be a number" in refused.json()["detail"]


def test_posting_a_job_says_where_to_poll(client, dataset):
    answer = client.post("/v1/jobs", json={"dataset": dataset, "checkpoints": [{"path": "/runs/1"}]})

    polled = client.get(answer.headers["Location"])

    assert answer.status_code == 202
    assert int(answer.headers["Retry-After"]) >= 1
    assert polled.json() == answer.json()
    assert int(polled.headers["Retry-After"]) >= 1


def test_progress_is_told_per_checkpoint_with_the_time_left(client, post_job):
    job = post_job()
    for _ in range(4):
        task = must_lease(client)
        put(client, task, result(task, always_right))
    must_lease(client)

    seen = client.get(f"/v1/jobs/{job}").json()

    assert [checkpoint["state"] for checkpoint in seen["checkpoints"]] == ["completed", "running"]
    assert seen["checkpoints"][1]["tasks"] == {
        "total": 3,
        "queued": 1,
        "leased": 1,
        "completed": 1,
        "failed": 0,
        "cancelled": 0,
    }
    assert 0 < seen["seconds_left"] < 600


def test_a_job_without_a_threshold_says_what_it_will_rest_on(client, post_job):
    job = post_job(memorized_below=None)
    before = client.get(f"/v1/jobs/{job}").json()["threshold"]

    work_off(client)
    after = ended(client, job)["threshold"]

    assert (before["basis"], before["memorized_below"]) == ("quantile", None)
    assert (after["basis"], after["memorized_below"]) == ("quantile", pytest.approx(2.0))
    assert before["forecast"] == after["forecast"] == "refused"
    assert "calibrated" in after["forecast_reason"]


@on_sqlite
def test_a_preset_is_named_with_its_source(client, post_job):
    job = post_job(memorized_below="gsm8k-llama3")

    threshold = client.get(f"/v1/jobs/{job}").json()["threshold"]

    assert (threshold["memorized_below"], threshold["basis"]) == (1.1055, "preset")
    assert "Kang et al." in threshold["source"]


@on_sqlite
@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"dataset": "ds_gone"}, "dataset", "there is no data set 'ds_gone'"),
        ({"test_dataset": "ds_gone"}, "test_dataset", "there is no data set 'ds_gone'"),
        ({"grader": {"name": "oracle"}}, "grader", "oracle"),
        ({"sampling": {"samples": 0}}, "sampling.samples", "greater than or equal to 1"),
        ({"sampling": {"temperature": -1}}, "sampling.temperature", "greater than or equal to 0"),
        ({"checkpoints": []}, "body", "name at least one"),
        ({"checkpoints": [{"path": "/a/same"}, {"path": "/b/same"}]}, "body", "two checkpoints are named 'same'"),
        ({"memorized_below": 0.5}, "memorized_below", "greater than 1"),
        ({"template": {"prompt": "nothing"}}, "template.prompt", "must contain {question}"),
        ({"smapling": {}}, "smapling", "did you mean sampling?"),
    ],
)
def test_a_job_that_cannot_be_is_refused_by_field(client, dataset, changes, field, message):
    request = {"dataset": dataset, "checkpoints": [{"path": "/runs/1"}], **changes}

    answer = client.post("/v1/jobs", json=request)

    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["instance"] == "/v1/jobs"
    named = {error["field"]: error["message"] for error in answer.json()["errors"]}
    assert any(name.startswith(field) and message in text for name, text in named.items()), named
    assert client.get("/v1/jobs").json()["items"] == []


@on_sqlite
def test_a_job_of_too_many_tasks_is_refused(client, app, dataset):
    app.state.settings.max_tasks = 11

    answer = client.post("/v1/jobs", json={"dataset": dataset, "checkpoints": [{"path": "/r/1"}], "shard_rows": 1})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "shard_rows"
    assert client.get("/v1/jobs").json()["items"] == []


def test_jobs_are_listed_newest_first_in_pages_that_miss_none(client, post_job):
    posted = [post_job(name=f"job {number}") for number in range(5)]

    listed, cursor = [], None
    while True:
        page = client.get("/v1/jobs", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        listed += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert listed == posted[::-1]


@on_sqlite
def test_a_cursor_that_nobody_gave_is_refused(client):
    answer = client.get("/v1/jobs", params={"cursor": "bm9uc2Vuc2U"})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "cursor"


def test_an_open_job_takes_checkpoints_until_it_is_closed(client, post_job):
    job = post_job(open=True, checkpoints=[])
    client.post(f"/v1/jobs/{job}/checkpoints", json={"path": "/runs/checkpoint-1"})
    work_off(client)
    between = client.get(f"/v1/jobs/{job}").json()
    appended = client.post(f"/v1/jobs/{job}/checkpoints", json={"path": "/runs/checkpoint-2"})
    work_off(client)

    closed = client.post(f"/v1/jobs/{job}/close")
    finished = ended(client, job)

    assert (between["state"], between["open"]) == ("running", True)
    assert appended.status_code == closed.status_code == 202
    assert finished["state"] == "completed"
    assert [checkpoint["name"] for checkpoint in finished["checkpoints"]] == ["checkpoint-1", "checkpoint-2"]
    assert client.post(f"/v1/jobs/{job}/checkpoints", json={"path": "/runs/checkpoint-3"}).status_code == 409


@on_sqlite
def test_a_checkpoint_is_appended_under_its_own_name_only(client, post_job):
    job = post_job(open=True)

    answer = client.post(f"/v1/jobs/{job}/checkpoints", json={"path": "/elsewhere/checkpoint-1"})

    assert answer.status_code == 409
    assert "give this one another name" in answer.json()["detail"]


def test_a_job_closed_without_a_checkpoint_fails(client, post_job):
    job = post_job(open=True, checkpoints=[])

    client.post(f"/v1/jobs/{job}/close")

    assert ended(client, job)["errors"] == ["no checkpoint was given"]


def test_a_job_that_nobody_works_on_is_cancelled_at_once(client, post_job):
    job = post_job()

    answers = [client.post(f"/v1/jobs/{job}/cancel") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["state"] == "cancelled"


def test_what_has_ended_cannot_be_cancelled(client, post_job):
    job = post_job()
    work_off(client)
    ended(client, job)

    answer = client.post(f"/v1/jobs/{job}/cancel")

    assert answer.status_code == 409
    assert answer.json()["detail"] == f"job {job} is completed already"


@on_sqlite
@pytest.mark.parametrize("path", ["", "/report", "/examples", "/examples/0", "/curated", "/events"])
def test_an_unknown_job_is_not_found(client, path):
    answer = client.get(f"/v1/jobs/job_gone{path}")

    assert answer.status_code == 404
    assert answer.json()["detail"] == "there is no job job_gone"


@on_sqlite
@pytest.mark.parametrize("path", ["/report", "/examples", "/examples/0", "/curated"])
def test_scores_are_there_once_the_job_is_completed(client, post_job, path):
    job = post_job()

    answer = client.get(f"/v1/jobs/{job}{path}")

    assert answer.status_code == 409
    assert "is queued" in answer.json()["detail"]


def test_a_failed_test_task_costs_the_checkpoint_only_its_test_accuracy(client, post_job):
    job = post_job(test_dataset=upload(client, rows=4, offset=50), checkpoints=[{"path": "/runs/1"}])
    fail(client, must_lease(client), "the test set is gone", permanent=True)

    work_off(client)
    finished = ended(client, job)

    assert finished["state"] == "completed"
    assert client.get(f"/v1/jobs/{job}/report").json()["checkpoints"][0]["test_accuracy"] is None
    assert any("1 has no test accuracy" in warning for warning in finished["warnings"])
    assert finished["errors"] == ["1, test rows 0 to 3: the test set is gone"]


def test_a_job_whose_results_vanished_fails_and_says_so(client, app, post_job, monkeypatch):
    monkeypatch.setattr(finalizing, "RETRY_SECONDS", 0.01)
    job = post_job(shard_rows=12)
    first = must_lease(client)
    put(client, first, result(first, always_right))
    app.state.store.delete([artifact.name for artifact in app.state.store.list("results/")])

    work_off(client)
    finished = ended(client, job)

    assert finished["state"] == "failed"
    assert "finalizing failed 3 times" in finished["errors"][0]
    assert "is gone" in finished["errors"][0]


def test_events_tell_every_change_until_the_job_has_ended(client, post_job):
    job = post_job()
    worker = threading.Thread(target=work_off, args=(client,))

    with client.stream("GET", f"/v1/jobs/{job}/events") as stream:
        worker.start()
        lines = list(stream.iter_lines())
    worker.join()

    states = [json.loads(line.removeprefix("data: "))["state"] for line in lines if line.startswith("data: ")]
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    assert {line for line in lines if line.startswith("event:")} == {"event: job"}
    assert states[0] == "queued"
    assert states[-1] == "completed"
