"""The client over real HTTP, with a service that does what a test needs."""

import gzip
import json
import socket
import time
from collections.abc import Iterator

import pytest

from premem import Client
from premem.errors import (
    Conflict,
    InputError,
    NotFound,
    RowsError,
    ServiceError,
    StaleAttempt,
    Unreachable,
)
from premem.wire.datasets import Columns
from premem.wire.jobs import JobRequest
from tests.premem.steered import REPORT, Reply, Steered, dataset_of, job_of, page_of, problem, scored

REQUEST = JobRequest(dataset="ds_1", checkpoints=[{"path": "/runs/checkpoint-5"}])
AWAY = Reply(b"bad gateway", status=502, headers={"Retry-After": "0"})


@pytest.fixture
def service() -> Iterator[Steered]:
    with Steered() as steered:
        yield steered


@pytest.fixture
def client(service: Steered) -> Iterator[Client]:
    with Client(service.url, timeout=5) as client:
        yield client


def nobody_listens() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


# Uploads


def test_a_file_is_sent_as_it_is_and_counted(service, client, tmp_path):
    path = tmp_path / "train.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"q": "2 + 3?"}\n' * 1000))
    service.on("POST /v1/datasets", Reply(dataset_of(), status=201))
    sent: list[int] = []

    columns = Columns(question="q", trace="t")
    dataset = client.upload(path, grader="math", columns=columns, max_ungradable=0.1, progress=sent.append)

    [asked] = service.asked
    assert dataset.id == "ds_1"
    assert asked.body == path.read_bytes()
    assert asked.query == {
        "name": "train.jsonl.gz",
        "grader": "math",
        "max_ungradable": "0.1",
        "question": "q",
        "trace": "t",
    }
    assert "Content-Encoding" not in asked.headers
    assert sent[-1] == path.stat().st_size


def test_dicts_are_sent_as_a_line_each(service, client):
    service.on("POST /v1/datasets", Reply(dataset_of(), status=201))

    client.upload([{"question": "2 + 3?", "answer": "#### 5"}, {"question": "é", "answer": "#### 6"}], name="two")

    assert [json.loads(line)["question"] for line in service.asked[0].body.splitlines()] == ["2 + 3?", "é"]
    assert service.asked[0].query == {"name": "two"}


def test_a_row_that_json_cannot_hold_is_named(service, client):
    service.on("POST /v1/datasets", Reply(dataset_of(), status=201))

    with pytest.raises(InputError, match="row 2, question: is infinite"):
        client.upload([{"question": "2 + 3?"}, {"question": float("inf")}])


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [("nowhere.jsonl", "there is no such file"), (".", "a folder"), ({"question": "2 + 3?"}, "many dicts")],
)
def test_what_holds_no_rows_is_not_sent(service, client, rows, complaint):
    with pytest.raises(InputError, match=complaint):
        client.upload(rows)

    assert service.asked == []


def test_an_open_file_is_sent_again_from_where_it_stood(service, client, tmp_path):
    (tmp_path / "train.jsonl").write_bytes(b"skipped\n{}\n")
    service.on("POST /v1/datasets", AWAY, Reply(dataset_of(), status=201))

    with (tmp_path / "train.jsonl").open("rb") as file:
        file.readline()
        client.upload(file)

    assert [asked.body for asked in service.asked] == [b"{}\n", b"{}\n"]


def test_what_can_be_read_once_is_sent_once(service, client):
    service.on("POST /v1/datasets", Reply(dropped=True), Reply(dataset_of(), status=201))

    with pytest.raises(Unreachable):
        client.upload({"question": str(n)} for n in range(3))

    assert len(service.asked) == 1


def test_bad_rows_come_back_by_line(service, client):
    errors = [{"line": 3, "field": "trace", "message": "is empty"}, {"line": 7, "field": None, "message": "not JSON"}]
    service.on("POST /v1/datasets", problem(422, "rows", "9 lines cannot be taken", errors=errors, total=9))

    with pytest.raises(RowsError, match="9 lines cannot be taken") as caught:
        client.upload([{"question": "2 + 3?"}])

    assert [str(line) for line in caught.value.lines] == ["line 3, trace: is empty", "line 7: not JSON"]
    assert caught.value.total == 9


# Trying again


@pytest.mark.parametrize("lost", [AWAY, Reply(dropped=True), Reply(b"", status=429), Reply(b"", status=503)])
def test_a_post_whose_answer_is_lost_is_repeated_under_one_key(service, client, lost):
    service.on("POST /v1/jobs", lost, Reply(job_of("queued"), status=202))

    job = client.create_job(REQUEST)

    keys = [asked.headers["Idempotency-Key"] for asked in service.asked]
    assert job.state == "queued"
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_a_first_attempt_that_is_still_under_way_is_waited_for(service, client):
    under_way = problem(409, "idempotency-under-way", "still under way", headers={"Retry-After": "0.01"})
    service.on("POST /v1/jobs", Reply(dropped=True), *[under_way] * 6, Reply(job_of("queued"), status=202))

    assert client.create_job(REQUEST).id == "job_1"
    assert len({asked.headers["Idempotency-Key"] for asked in service.asked}) == 1


def test_each_post_has_a_key_of_its_own(service, client):
    service.on("POST /v1/jobs", Reply(job_of("queued"), status=202))

    client.create_job(REQUEST)
    client.create_job(REQUEST)

    assert len({asked.headers["Idempotency-Key"] for asked in service.asked}) == 2


def test_a_delete_that_took_effect_before_its_answer_was_lost_is_no_error(service, client):
    gone = problem(404, "not-found", "there is no data set ds_1")
    service.on("DELETE /v1/datasets/ds_1", Reply(dropped=True), gone)

    client.delete_dataset("ds_1")

    with pytest.raises(NotFound):
        client.delete_dataset("ds_1")


@pytest.mark.parametrize("status", [400, 500, 507])
def test_what_patience_does_not_mend_is_not_repeated(service, client, status):
    service.on("GET /v1/jobs/job_1", problem(status, "other", "no"))

    with pytest.raises(ServiceError, match="no"):
        client.job("job_1")

    assert len(service.asked) == 1


def test_nobody_there_is_said_with_the_url_and_what_to_do():
    url = nobody_listens()

    with Client(url, attempts=2) as client, pytest.raises(Unreachable, match=f"{url} .*premem serve.*PREMEM_SERVICE"):
        client.job("job_1")


# Problems


@pytest.mark.parametrize(
    ("status", "type_", "kind"),
    [
        (404, "not-found", NotFound),
        (409, "conflict", Conflict),
        (409, "stale-attempt", StaleAttempt),
        (422, "validation", InputError),
        (401, "unauthorized", ServiceError),
        (500, "internal", ServiceError),
    ],
)
def test_a_problem_is_raised_as_its_error(service, client, status, type_, kind):
    service.on("GET /v1/jobs/job_1", problem(status, type_, "what went wrong"))

    with pytest.raises(kind, match="what went wrong") as caught:
        client.job("job_1")

    assert type(caught.value) is kind


@pytest.mark.parametrize("reply", [Reply(b"<html>not here</html>", status=404), Reply({"hello": "you"})])
def test_another_server_is_not_taken_for_a_service(service, client, reply):
    service.on("GET /v1/jobs/job_1", reply)

    with pytest.raises(ServiceError, match="is this a premem service"):
        client.job("job_1")


# Waiting


def test_waiting_follows_the_job_and_asks_when_it_is_told_to(service, client):
    soon = {"Retry-After": "0.2"}
    service.on(
        "GET /v1/jobs/job_1",
        Reply(job_of("queued"), headers=soon),
        Reply(job_of("running", done=3), headers=soon),
        Reply(job_of("completed", done=6)),
    )
    seen: list[str] = []
    began = time.monotonic()

    job = client.wait("job_1", on_progress=lambda job: seen.append(job.state))

    assert job.state == "completed"
    assert seen == ["queued", "running", "completed"]
    assert 0.4 <= time.monotonic() - began < 1.9  # 2 s would be the pause of a service that names none


def test_waiting_bears_a_service_that_restarts(service):
    running = Reply(job_of("running"), headers={"Retry-After": "0.01"})
    service.on("GET /v1/jobs/job_1", running, AWAY, Reply(dropped=True), AWAY, Reply(job_of("failed")))

    with Client(service.url, attempts=1) as client:
        # Two seconds between looks where the service says nothing: jobs are long.
        job = client.wait("job_1")

    assert job.state == "failed"


def test_waiting_ends_with_its_timeout(service, client):
    service.on("GET /v1/jobs/job_1", Reply(job_of("running"), headers={"Retry-After": "0.01"}))

    with pytest.raises(TimeoutError, match=r"job_1 has not ended within 0\.1 s"):
        client.wait("job_1", timeout=0.1)


# What comes back


def test_a_subset_is_written_whole_or_not_at_all(service, client, tmp_path):
    path = tmp_path / "curated.jsonl"
    path.write_bytes(b"as it was")
    rows = b'{"question": "2 + 3?"}\n' * 100
    cut = Reply(rows, cut=True)
    service.on("GET /v1/jobs/job_1/curated", cut)

    with Client(service.url, attempts=2) as impatient, pytest.raises(Unreachable):
        impatient.curated("job_1", path)

    assert path.read_bytes() == b"as it was"
    assert list(tmp_path.iterdir()) == [path]

    service.on("GET /v1/jobs/job_1/curated", cut, Reply(rows, headers={"X-Premem-Rows": "100"}))

    assert client.curated("job_1", path, below=0.4, budget=100) == 100
    assert path.read_bytes() == rows
    assert service.asked[-1].query == {"below": "0.4", "budget": "100", "group": "chosen", "format": "jsonl"}


def test_a_refused_subset_leaves_no_file(service, client, tmp_path):
    service.on("GET /v1/jobs/job_1/curated", problem(409, "conflict", "job job_1 is running"))

    with pytest.raises(Conflict, match="is running"):
        client.curated("job_1", tmp_path / "curated.jsonl")

    assert list(tmp_path.iterdir()) == []


def test_a_ranking_is_read_page_by_page(service, client):
    service.on(
        "GET /v1/jobs/job_1/examples",
        Reply(page_of(scored(0), scored(1), total=3, next_cursor="after-1")),
        Reply(page_of(scored(2), total=3)),
    )

    ranks = [example.rank for example in client.iter_examples("job_1", page_size=2)]

    assert ranks == [0, 1, 2]
    assert [asked.query for asked in service.asked] == [{"limit": "2"}, {"limit": "2", "cursor": "after-1"}]


def test_jobs_are_listed_page_by_page(service, client):
    one = job_of("completed").model_dump(mode="json")
    service.on(
        "GET /v1/jobs", Reply({"items": [one], "next_cursor": "more"}), Reply({"items": [one], "next_cursor": None})
    )

    assert [job.state for job in client.jobs()] == ["completed", "completed"]


def test_a_report_is_typed(service, client):
    service.on("GET /v1/jobs/job_1/report", Reply(REPORT))

    assert client.report("job_1") == REPORT


# Where and as whom


def test_service_and_key_come_from_the_environment(service, monkeypatch):
    monkeypatch.setenv("PREMEM_SERVICE", service.url + "/")
    monkeypatch.setenv("PREMEM_API_KEY", "pmk_a_b")
    service.on("GET /healthz", Reply({"status": "ok"}))

    with Client() as client:
        assert client.health() == {"status": "ok"}

    assert service.asked[0].path == "/healthz"
    assert service.asked[0].headers["Authorization"] == "Bearer pmk_a_b"


def test_a_proxy_is_not_asked_for_this_machine(service, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", nobody_listens())
    service.on("GET /healthz", Reply({"status": "ok"}))

    with Client(service.url) as client:
        assert client.health() == {"status": "ok"}


@pytest.mark.parametrize("url", ["127.0.0.1:8321", "ftp://premem", "http://[premem"])
def test_what_is_no_url_is_refused_at_once(url):
    with pytest.raises(InputError, match="is no URL of a service"):
        Client(url)


def test_an_id_cannot_reach_another_route(service, client):
    with pytest.raises(NotFound):
        client.job("../datasets?x=1")

    assert service.asked[0].path == "/v1/jobs/..%2Fdatasets%3Fx%3D1"
