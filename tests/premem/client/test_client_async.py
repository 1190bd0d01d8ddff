"""The same methods, awaited."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from premem import AsyncClient, JobRequest
from premem.errors import NotFound, Unreachable
from tests.premem.steered import Reply, Steered, dataset_of, job_of, page_of, scored

AWAY = Reply(b"bad gateway", status=502, headers={"Retry-After": "0"})


@pytest.fixture
def service() -> Iterator[Steered]:
    with Steered() as steered:
        yield steered


def ask(service: Steered, what: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
    async def asking() -> Any:
        async with AsyncClient(service.url, timeout=5) as client:
            return await what(client)

    return asyncio.run(asking())


def test_a_post_whose_answer_is_lost_is_repeated_under_one_key(service):
    service.on("POST /v1/jobs", Reply(dropped=True), AWAY, Reply(job_of("queued"), status=202))

    job = ask(service, lambda client: client.create_job(JobRequest(dataset="ds_1", open=True)))

    assert job.id == "job_1"
    assert len(service.asked) == 3
    assert len({asked.headers["Idempotency-Key"] for asked in service.asked}) == 1


def test_rows_are_sent_again_where_the_answer_is_lost(service):
    service.on("POST /v1/datasets", AWAY, Reply(dataset_of(), status=201))

    assert ask(service, lambda client: client.upload([{"question": "2 + 3?"}], name="one")).id == "ds_1"
    assert [json.loads(asked.body) for asked in service.asked] == [{"question": "2 + 3?"}] * 2


def test_pages_are_asked_for_as_they_are_read(service):
    last = Reply(page_of(scored(2)))
    service.on("GET /v1/jobs/job_1/examples", Reply(page_of(scored(0), scored(1), next_cursor="c")), last)

    async def ranks(client: AsyncClient) -> list[int]:
        return [example.rank async for example in client.iter_examples("job_1")]

    assert ask(service, ranks) == [0, 1, 2]
    assert [asked.query for asked in service.asked] == [{}, {"cursor": "c"}]


def test_many_jobs_are_waited_for_at_once(service):
    soon = {"Retry-After": "0.2"}
    service.on("GET /v1/jobs/job_1", Reply(job_of("running"), headers=soon), Reply(job_of("completed")))

    async def both(client: AsyncClient) -> list[str]:
        return [job.state for job in await asyncio.gather(client.wait("job_1"), client.wait("job_1"))]

    assert ask(service, both) == ["completed", "completed"]


def test_a_download_that_breaks_off_is_made_again_and_leaves_nothing_half_written(service, tmp_path):
    whole = b'{"question": "2 + 3?"}\n'
    service.on("GET /v1/jobs/job_1/curated", Reply(whole, cut=True), Reply(whole, headers={"X-Premem-Rows": "1"}))

    rows = ask(service, lambda client: client.curated("job_1", tmp_path / "low.jsonl", below=0.5))

    assert rows == 1
    assert (tmp_path / "low.jsonl").read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["low.jsonl"]


def test_problems_are_raised_as_errors(service):
    with pytest.raises(NotFound):
        ask(service, lambda client: client.job("job_none"))
    service.on("GET /v1/jobs/job_1", Reply(dropped=True))
    with pytest.raises(Unreachable):
        ask(service, lambda client: client.job("job_1"))


def test_a_page_is_a_table(service):
    service.on("GET /v1/jobs/job_1/examples", Reply(page_of(scored(0), scored(1))))

    page = ask(service, lambda client: client.examples("job_1"))

    assert page.to_polars()["pre_memorization_accuracy"].to_list() == [0.0, 0.2]
    assert page.to_polars()["perplexity"].to_list() == [[1.5, 1.01]] * 2
    assert page.to_pandas()["id"].tolist() == ["e0", "e1"]
