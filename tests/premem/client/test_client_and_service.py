"""The client against the real service, a process of its own."""

from collections.abc import Iterator

import pytest

from premem import Client
from premem.errors import Conflict, InputError, NotFound, RowsError
from premem.local import LocalService
from premem.wire.datasets import Columns
from premem.wire.jobs import JobRequest


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("service")
    with LocalService(folder, checkpoint_roots=[], workers=0) as local, Client(local.url) as client:
        yield client


def rows(first: int, count: int = 3) -> list[dict[str, str]]:
    return [{"q": f"{n} + 1?", "solution": f"It is {n + 1}.\n#### {n + 1}"} for n in range(first, first + count)]


def test_the_same_rows_are_the_same_data_set(client):
    first = client.upload(rows(0), name="sums", columns=Columns(question="q"))
    again = client.upload(rows(0), columns=Columns(question="q"))

    assert again == first
    assert (first.rows, first.ungradable, first.name) == (3, 0, "sums")
    assert client.dataset(first.id) == first
    assert first in list(client.datasets())


def test_bad_lines_are_named(client):
    bad = [*rows(10), {"q": "", "solution": "#### 1"}, {"q": "2 + 3?"}]

    with pytest.raises(RowsError) as caught:
        client.upload(bad, columns=Columns(question="q"))

    assert {line.line for line in caught.value.lines} == {4, 5}


def test_a_job_is_posted_listed_and_cancelled(client):
    dataset = client.upload(rows(20), columns=Columns(question="q"))

    job = client.create_job(JobRequest(dataset=dataset.id, checkpoints=[{"path": "/runs/checkpoint-5"}], open=True))
    job = client.append_checkpoint(job.id, "/runs/checkpoint-9")
    assert [checkpoint.name for checkpoint in job.checkpoints] == ["checkpoint-5", "checkpoint-9"]
    assert client.job(job.id).state == "queued"
    assert next(client.jobs()).id == job.id
    assert not client.close_job(job.id).open
    with pytest.raises(Conflict, match="takes no more checkpoints"):
        client.append_checkpoint(job.id, "/runs/checkpoint-10")
    with pytest.raises(Conflict):
        client.report(job.id)
    with pytest.raises(Conflict):
        client.delete_dataset(dataset.id)

    assert client.cancel(job.id).state in {"cancelling", "cancelled"}
    assert client.wait(job.id, timeout=20).state == "cancelled"


def test_a_data_set_that_nobody_uses_is_deleted(client):
    dataset = client.upload(rows(30), columns=Columns(question="q"))

    client.delete_dataset(dataset.id)

    with pytest.raises(NotFound):
        client.dataset(dataset.id)


def test_what_the_service_refuses_is_said(client):
    with pytest.raises(InputError, match="nonsense"):
        client.upload(rows(40), grader="nonsense")
    with pytest.raises(NotFound, match="job_none"):
        client.job("job_none")
    with pytest.raises((NotFound, InputError), match="ds_none"):
        client.create_job(JobRequest(dataset="ds_none", checkpoints=[{"path": "/runs/checkpoint-5"}]))
