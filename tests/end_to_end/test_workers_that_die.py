"""A worker killed in the middle of a task, another one frozen until its lease is gone: nothing is lost, nothing counts twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select

from premem import Client
from premem.wire.jobs import Checkpoint, JobRequest, Sampling
from premem_service.storage.tables import tasks
from tests.end_to_end.processes import HOUSE, Service, Worker, await_that
from tests.postgres import postgres_server

EXAMPLES = 32
TWINS = 2 * EXAMPLES
SAMPLES = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.jsonl, test.jsonl and two checkpoints of a real finetuning run."""
    folder = tmp_path_factory.mktemp("run")
    questions = ["-m", "lab.questions", "--train", str(EXAMPLES), "--seed", "5", "--out", str(folder)]
    finetune = ["-m", "lab.finetune", "--data", str(folder / "train.jsonl"), "--base", "lab/base"]
    finetune += ["--out", str(folder / "checkpoints"), "--epochs", "2"]
    for arguments in (questions, finetune):
        subprocess.run([sys.executable, *arguments], cwd=HOUSE, check=True)
    return folder


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'premem.db'}"
    else:
        with postgres_server() as url:
            yield url


def post(client: Client, run: Path) -> str:
    dataset = client.upload(run / "train.jsonl")
    twins = client.upload(run / "test.jsonl")
    checkpoints = sorted((run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    request = JobRequest(
        dataset=dataset.id,
        test_dataset=twins.id,
        checkpoints=[Checkpoint(path=str(path)) for path in checkpoints],
        sampling=Sampling(samples=SAMPLES, max_tokens=96, seed=11),
        memorized_below=1.4,
        shard_rows=8,
    )
    return client.create_job(request).id


def everything_scored(client: Client, job: str) -> dict[int, dict[str, object]]:
    """Each example with its scores and every sampled answer."""
    return {item.row: client.example(job, item.row).model_dump(mode="json") for item in client.iter_examples(job)}


@pytest.fixture(scope="module")
def undisturbed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, object]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    service = Service(folder, database_url=f"sqlite:///{folder / 'premem.db'}")
    worker = Worker(folder, name="alone", service=service, checkpoints=run, engine="transformers")
    try:
        with Client(service.url) as client:
            job = post(client, run)
            assert client.wait(job, timeout=240).state == "completed", worker.log.read_text()
            return everything_scored(client, job)
    finally:
        worker.stop()
        service.stop()


def test_a_killed_and_a_frozen_worker_change_nothing(run, database_url, undisturbed, tmp_path):
    service = Service(tmp_path, database_url=database_url)
    database = create_engine(database_url)
    names = ("killed", "frozen", "spare")
    workers = {
        name: Worker(tmp_path, name=name, service=service, checkpoints=run, engine="transformers") for name in names[:2]
    }
    try:
        with Client(service.url) as client:
            job = post(client, run)

            lost = await_that(lambda: workers["killed"].leased(database), seconds=90, what="a lease to interrupt")
            workers["killed"].signal(signal.SIGKILL)
            stale = await_that(lambda: workers["frozen"].leased(database), seconds=90, what="a lease to outlast")
            workers["frozen"].signal(signal.SIGSTOP)
            held = workers["frozen"].leased(database)
            workers["spare"] = Worker(tmp_path, name="spare", service=service, checkpoints=run, engine="transformers")
            await_that(lambda: _passed_on(database, held or stale), seconds=90, what="the lease to pass on")
            workers["frozen"].signal(signal.SIGCONT)
            finished = client.wait(job, timeout=240)

            assert finished.state == "completed", finished.errors
            assert finished.counts.examples == finished.counts.examples_total == 2 * (EXAMPLES + TWINS)
            assert finished.counts.samples == 2 * (EXAMPLES + TWINS) * SAMPLES
            assert finished.counts.tasks.completed == finished.counts.tasks.total
            assert everything_scored(client, job) == undisturbed
        with closing(database.connect()) as connection:
            assert connection.scalar(select(tasks.c.losses).where(tasks.c.id == lost)) == 1
            assert connection.execute(select(tasks.c.failures).where(tasks.c.failures > 0)).all() == []
        assert workers["frozen"].process.poll() is None  # it woke up, threw its result away and went on
    finally:
        for process in (*workers.values(), service):
            process.stop()
        database.dispose()


def _passed_on(database, task: str) -> bool:
    with closing(database.connect()) as connection:
        return bool(connection.scalar(select(tasks.c.losses >= 1).where(tasks.c.id == task)))


def test_a_worker_that_is_told_to_end_gives_its_task_back(run, tmp_path):
    url = f"sqlite:///{tmp_path / 'premem.db'}"
    service = Service(tmp_path, database_url=url, lease_seconds=60)
    database = create_engine(url)
    first = Worker(tmp_path, name="first", service=service, checkpoints=run, engine="transformers")
    second = None
    try:
        with Client(service.url) as client:
            job = post(client, run)
            task = await_that(lambda: first.leased(database), seconds=90, what="a lease")
            first.signal(signal.SIGTERM)

            assert first.ended(seconds=10) == 0
            with closing(database.connect()) as connection:
                state, losses = connection.execute(
                    select(tasks.c.state, tasks.c.losses).where(tasks.c.id == task)
                ).one()
            assert (state, losses) in {("queued", 0), ("completed", 0)}
            second = Worker(tmp_path, name="second", service=service, checkpoints=run, engine="transformers")
            assert client.wait(job, timeout=240).state == "completed"
    finally:
        for process in filter(None, (first, second, service)):
            process.stop()
        database.dispose()


@pytest.mark.parametrize("engine", ["transformers", pytest.param("vllm", marks=pytest.mark.vllm)])
def test_a_subset_comes_back_as_it_was_sent_lowest_first(run, tmp_path, engine):
    if engine == "vllm":
        pytest.importorskip("vllm", reason="vLLM is not installed")
    service = Service(tmp_path, database_url=f"sqlite:///{tmp_path / 'premem.db'}")
    worker = Worker(tmp_path, name="worker", service=service, checkpoints=run, engine=engine)
    try:
        with Client(service.url) as client:
            job = post(client, run)
            assert client.wait(job, timeout=240).state == "completed"
            client.curated(job, tmp_path / "curated.jsonl", below=0.5, budget=10)

        sent = [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]
        curated = [json.loads(line) for line in (tmp_path / "curated.jsonl").read_text().splitlines()]
        scores = [row["premem"]["pre_memorization_accuracy"] for row in curated]
        assert 0 < len(curated) <= 10
        assert scores == sorted(scores)
        assert max(scores) < 0.5
        for row in curated:
            about = row.pop("premem")
            assert row == sent[about["row"]]
    finally:
        worker.stop()
        service.stop()
