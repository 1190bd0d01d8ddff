"""A run scored from Python by one call, which returns a handle that waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from premem.client.client import AsyncClient, Client
from premem.errors import InputError
from premem.wire.jobs import Checkpoint
from tests.premem.steered import REPORT, Reply, Steered, dataset_of, job_of, page_of, scored

SOON = {"Retry-After": "0.01"}


@pytest.fixture
def service() -> Iterator[Steered]:
    with Steered() as service:
        service.on("POST /v1/datasets", Reply(dataset_of(), status=201))
        service.on("POST /v1/jobs", Reply(job_of("queued"), status=202))
        running, completed = job_of("running", done=3), job_of("completed", done=6)
        service.on("GET /v1/jobs/job_1", Reply(running, headers=SOON), Reply(completed))
        service.on("GET /v1/jobs/job_1/report", Reply(REPORT))
        service.on("GET /v1/jobs/job_1/examples", Reply(page_of(scored(0), scored(1))))
        yield service


def posted(service: Steered) -> dict:
    return json.loads(next(asked.body for asked in service.asked if (asked.method, asked.path) == ("POST", "/v1/jobs")))


def test_one_call_uploads_and_posts_and_its_handle_waits_and_shows_how_far_it_is(service, capsys):
    rows = [{"question": "2 + 3?", "answer": "#### 5"}]
    with Client(service.url) as client:
        scoring = client.score(
            rows, ["/runs/checkpoint-112", "/runs/checkpoint-28"], upload={"grader": "gsm8k"}, memorized_below=1.2
        )
        job = scoring.wait(progress=True)
        frame = scoring.examples().to_polars()
        report = scoring.report()

    assert (scoring.id, job.state, scoring.job.state) == ("job_1", "completed", "completed")
    assert [one["path"] for one in posted(service)["checkpoints"]] == ["/runs/checkpoint-28", "/runs/checkpoint-112"]
    assert (posted(service)["dataset"], posted(service)["memorized_below"]) == ("ds_1", 1.2)
    assert service.asked[0].query["grader"] == "gsm8k"
    assert "scoring: 6 of 6 examples" in capsys.readouterr().err
    assert frame["row"].to_list() == [10, 11]
    assert report.job == "job_1"


def test_the_same_is_awaited(service):
    async def score() -> str:
        async with AsyncClient(service.url) as client:
            scoring = await client.score("ds_1", [Checkpoint(path="/runs/b"), "/runs/a"], test="ds_2")
            await scoring.wait()
            return f"{scoring!r} {(await scoring.report()).job}"

    assert asyncio.run(score()) == "<AsyncScoring job_1: completed> job_1"
    assert [one["path"] for one in posted(service)["checkpoints"]] == ["/runs/b", "/runs/a"]
    assert (posted(service)["dataset"], posted(service)["test_dataset"]) == ("ds_1", "ds_2")


def test_checkpoints_of_this_machine_are_named_by_their_whole_path(service, tmp_path, monkeypatch):
    (tmp_path / "checkpoint-5").mkdir()
    monkeypatch.chdir(tmp_path)
    with Client(service.url) as client:
        client.score("ds_1", ["checkpoint-5"])

    assert posted(service)["checkpoints"] == [{"path": str(tmp_path / "checkpoint-5"), "name": "checkpoint-5"}]


@pytest.mark.parametrize(
    ("checkpoints", "settings", "told"),
    [
        (["a"], {"memorised_below": 1.2}, "memorised_below: Extra inputs"),
        (["a"], {"sampling": {"samples": 0}}, "sampling.samples: "),
        ([], {}, "checkpoints is empty"),
        ("checkpoint-5", {}, "give a list of them"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_sent(service, checkpoints, settings, told):
    with Client(service.url) as client, pytest.raises(InputError, match=told):
        client.score([{"question": "2 + 3?"}], checkpoints, **settings)

    assert service.asked == []


def test_waiting_has_an_end(service):
    service.on("GET /v1/jobs/job_1", Reply(job_of("running", done=3), headers=SOON))

    with Client(service.url) as client, pytest.raises(TimeoutError, match="has not ended within"):
        client.score("ds_1", ["a"]).wait(timeout=0.05)
