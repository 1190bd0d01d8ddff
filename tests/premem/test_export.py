"""A curated subset as a folder: datasets reads it, and it says where it comes from."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import datasets
import httpx
import pyarrow.parquet as pq
import pytest
import uvicorn

from premem.client import Client
from premem.errors import Conflict, InputError, NotFound
from premem.export import export_folder, lineage
from premem.records import Observation
from premem.wire import JobRequest
from service.app import create_app
from service.settings import Settings
from tests.end_to_end.processes import await_that
from tests.service.working import work_off

HOSTILE = "a | b <script> `c`\n# heading"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    app = create_app(Settings(data_dir=tmp_path_factory.mktemp("service"), round_seconds=0.05))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    await_that(lambda: server.started, seconds=60, what="the service to listen")
    with Client(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}") as client:
        yield client
    server.should_exit = True
    thread.join(timeout=30)


@pytest.fixture(scope="module")
def job(client: Client) -> str:
    rows = [{"question": f"{n} + 1?", "answer": f"#### {n + 1}", "topic": {"n": n}} for n in range(12)]
    dataset = client.upload(rows, name=HOSTILE)
    body = {
        "dataset": dataset.id,
        "checkpoints": [{"path": "/r/1"}],
        "memorized_below": 1.2,
        "sampling": {"samples": 2},
    }
    made = client.create_job(JobRequest.model_validate(body))
    with httpx.Client(base_url=client.base_url) as worker:
        work_off(worker, lambda name, row: Observation(correct=row % 3, sampled=2, perplexity=2.0))
    assert client.wait(made.id, timeout=30).state == "completed"
    return made.id


def test_datasets_reads_the_folder_in_the_order_of_the_ranking(client: Client, job: str, tmp_path: Path):
    rows = export_folder(client, job, tmp_path / "curated", below=0.6)

    read = datasets.load_dataset(str(tmp_path / "curated"), split="train", cache_dir=str(tmp_path / "cache"))

    wanted = [json.loads(line) for line in _lines(client, job, tmp_path)]
    assert rows == len(read) == 8
    assert [row["question"] for row in read] == [row["question"] for row in wanted]
    assert [row["topic"] for row in read] == [row["topic"] for row in wanted]
    assert read[0]["premem"]["pre_memorization_accuracy"] == 0.0


def _lines(client: Client, job: str, folder: Path) -> list[str]:
    client.curated(job, folder / "rows.jsonl", below=0.6)
    return (folder / "rows.jsonl").read_text().splitlines()


def test_card_and_lineage_say_where_it_comes_from(client: Client, job: str, tmp_path: Path):
    export_folder(client, job, tmp_path / "curated", policy="band", above=0.2, below=0.8, seed=7)

    told = json.loads((tmp_path / "curated" / "lineage.json").read_text())
    card = (tmp_path / "curated" / "README.md").read_text()
    metadata = pq.read_metadata(tmp_path / "curated" / "data" / "train.parquet").metadata

    assert told["choice"]["policy"] == "band"
    assert (told["choice"]["seed"], told["choice"]["group"]) == (7, "chosen")
    assert told["dataset"]["id"] == client.job(job).dataset
    assert told["produced_by"]["engine"] == "fake"
    assert told["job"]["checkpoints"] == [{"name": "1", "path": "/r/1"}]
    assert told["dataset"]["id"] in card
    assert "a \\| b &lt;script> 'c' # heading" in card
    assert card.startswith("---\nconfigs:")
    assert json.loads(metadata[b"premem"])["policy"] == "band"


def test_the_same_again_has_the_same_lineage(client: Client, job: str):
    one, other = (lineage(client, job, below=0.3) for _ in range(2))

    assert {**one, "made_at": ""} == {**other, "made_at": ""}


def test_a_folder_that_is_there_is_left_alone(client: Client, job: str, tmp_path: Path):
    (tmp_path / "mine").mkdir()

    with pytest.raises(InputError, match="is there already"):
        export_folder(client, job, tmp_path / "mine")


def test_nothing_half_written_stays(client: Client, job: str, tmp_path: Path):
    with pytest.raises(NotFound):
        export_folder(client, "job_gone", tmp_path / "curated")
    with pytest.raises((Conflict, InputError)):
        export_folder(client, job, tmp_path / "curated", above=0.9, below=0.1)

    assert list(tmp_path.iterdir()) == []
