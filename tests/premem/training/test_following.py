"""A run that is followed, before a service that comes and goes."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from premem import Checkpoint, Client, JobRequest
from premem.training.following import Following, Saved
from premem.wire.reports import SoFar
from tests.premem.steered import REPORT, Reply, Steered, job_of, problem


@pytest.fixture
def service() -> Iterator[Steered]:
    with Steered() as steered:
        yield steered


class Run:
    """A followed run and what it said."""

    def __init__(self, url: str, **how: object) -> None:
        self.warnings: list[str] = []
        self.released: list[str] = []
        self.following = Following(
            lambda: Client(url, attempts=1, timeout=5),
            lambda client, key: client.create_job(JobRequest(dataset="ds_1", open=True), idempotency_key=key),
            warn=self.warnings.append,
            look_seconds=0.02,
            **how,
        )

    def save(self, name: str, prepare: Callable[[], None] = lambda: None) -> None:
        checkpoint = Checkpoint(path=f"/runs/{name}")
        self.following.append(Saved(checkpoint, prepare=prepare, release=lambda: self.released.append(name)))


def job_with(*states: str, state: str = "running") -> Reply:
    job = job_of(state)
    named = [
        job.checkpoints[0].model_copy(update={"name": f"checkpoint-{number}", "state": told})
        for number, told in enumerate(states, 1)
    ]
    return Reply(job.model_copy(update={"checkpoints": named, "open": True}))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def posts(service: Steered) -> list[str]:
    return [asked.path.removeprefix("/v1/jobs") for asked in service.asked if asked.method == "POST"]


def answers(service: Steered, *states: str) -> None:
    service.on("POST /v1/jobs", Reply(job_of("queued"), status=202))
    service.on("POST /v1/jobs/job_1/checkpoints", Reply(job_of("queued"), status=202))
    service.on("POST /v1/jobs/job_1/close", Reply(job_of("queued"), status=202))
    service.on("GET /v1/jobs/job_1", job_with(*states))
    service.on("GET /v1/jobs/job_1/so-far", Reply(SoFar.model_validate({**REPORT.model_dump(), "state": "running"})))


def until(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not found() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert found()


def test_a_run_is_told_in_order(service):
    answers(service, "queued", "queued")
    run = Run(service.url)
    run.following.start()

    run.save("checkpoint-1")
    run.save("checkpoint-2")
    run.following.close()

    assert run.following.finish(10)
    assert posts(service) == ["", "/job_1/checkpoints", "/job_1/checkpoints", "/job_1/close"]
    appended = [json.loads(asked.body)["name"] for asked in service.asked if asked.path.endswith("/checkpoints")]
    assert appended == ["checkpoint-1", "checkpoint-2"]
    assert run.warnings == []


def test_nothing_waits_for_a_service_that_is_away_and_it_is_warned_of_once():
    run = Run(f"http://127.0.0.1:{free_port()}")
    run.following.start()
    run.save("checkpoint-1")
    until(lambda: run.warnings)
    began = time.perf_counter()

    run.save("checkpoint-2")
    run.following.close()
    told = run.following.finish(60, only_if_there=True)

    assert not told
    assert time.perf_counter() - began < 5
    assert [checkpoint.name for checkpoint in run.following.waiting] == ["checkpoint-1", "checkpoint-2"]
    assert not run.following.finish(0.3)
    assert len(run.warnings) == 1
    assert "training goes on" in run.warnings[0]


def test_what_could_not_be_said_is_said_when_the_service_is_back_and_makes_one_job(service):
    answers(service, "queued", "queued")
    away = Reply(b"", status=503)
    service.on("POST /v1/jobs", Reply(dropped=True), away, Reply(job_of("queued"), status=202))
    run = Run(service.url)
    run.save("checkpoint-1")
    run.following.start()
    until(lambda: run.warnings)
    run.save("checkpoint-2")
    run.following.close()

    assert run.following.finish(10)
    assert posts(service)[-3:] == ["/job_1/checkpoints", "/job_1/checkpoints", "/job_1/close"]
    keys = {asked.headers["Idempotency-Key"] for asked in service.asked if asked.path == "/v1/jobs"}
    assert len(keys) == 1


def test_a_checkpoint_whose_answer_was_lost_is_registered_once(service):
    answers(service, "queued")
    taken = problem(409, "conflict", "job job_1 has a checkpoint named 'checkpoint-1' already")
    service.on("POST /v1/jobs/job_1/checkpoints", Reply(dropped=True), taken)
    run = Run(service.url)
    run.following.start()
    run.save("checkpoint-1")
    until(lambda: run.warnings)
    run.following.close()

    assert run.following.finish(10)
    assert posts(service).count("/job_1/checkpoints") == 2


def test_a_refusal_ends_the_following_and_not_the_run(service):
    service.on("POST /v1/jobs", problem(422, "validation", "there is no data set 'ds_1'"))
    run = Run(service.url)
    run.following.start()
    until(lambda: run.warnings)

    run.save("checkpoint-1")
    run.following.close()

    assert not run.following.finish(10)
    assert len(run.warnings) == 1
    assert "there is no data set 'ds_1'" in run.warnings[0]
    assert run.released == []


def test_no_more_than_so_many_checkpoints_wait():
    run = Run(f"http://127.0.0.1:{free_port()}", most_waiting=2)

    for number in range(5):
        run.save(f"checkpoint-{number}")

    assert len(run.following.waiting) == 2
    assert len(run.warnings) == 1


def test_a_checkpoint_that_cannot_be_copied_is_left_out(service):
    def full() -> None:
        raise OSError("no space left on device")

    answers(service, "queued")
    run = Run(service.url)
    run.following.start()
    run.save("checkpoint-1", prepare=full)
    run.save("checkpoint-2")
    run.following.close()

    assert run.following.finish(10)
    assert posts(service).count("/job_1/checkpoints") == 1
    assert run.warnings == ["checkpoint-1 is left out, and training goes on: no space left on device"]


def test_a_scored_checkpoint_is_news_once_and_is_let_go_unless_it_is_the_last(service):
    answers(service, "completed", "completed")
    run = Run(service.url)
    run.following.start()
    run.save("checkpoint-1")
    run.save("checkpoint-2")
    until(lambda: run.released)

    line = run.following.news()
    assert line is not None
    assert line.train_accuracy == 0.4
    assert run.following.news() is None
    assert run.released == ["checkpoint-1"]
    service.on("GET /v1/jobs/job_1", job_with("completed", "completed", state="completed"))
    until(lambda: run.released == ["checkpoint-1", "checkpoint-2"])
