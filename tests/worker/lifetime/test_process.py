"""Workers as processes of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from premem.payloads.results import check
from premem.wire.bodies import GraderChoice
from premem.wire.jobs import Sampling
from premem_worker.__main__ import main
from tests.checkpoints import make_checkpoint
from tests.fakes import Comparing, FakeEngine, FakeService, examples, make_task, problem
from tests.worker.passes.running import run_pass
from tests.worker.worker_processes import REPOSITORY, gone_within, run_worker, start_stuck_worker


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService(rows=examples(12)) as fake:
        yield fake


def test_a_worker_imports_no_engine_before_it_has_a_task():
    heavy = "{'torch', 'vllm', 'transformers', 'math_verify'}"

    subprocess.run(
        [sys.executable, "-c", f"import sys, premem_worker.__main__; assert not {heavy} & set(sys.modules)"],
        cwd=REPOSITORY,
        check=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_stuck_in_a_model_load_gives_its_task_back_and_is_gone_within_ten_seconds(
    service: FakeService, number: signal.Signals
):
    service.tasks.append(make_task(attempt=2))
    worker, child = start_stuck_worker(service, "--ending-seconds", "1")
    worker.send_signal(number)

    assert worker.wait(10) == 0
    assert service.released == [("task-1", 2)]
    assert gone_within(child, 5)


def test_a_second_signal_ends_the_worker_at_once(service: FakeService):
    service.tasks.append(make_task())
    worker, _ = start_stuck_worker(service, "--ending-seconds", "600")
    worker.send_signal(signal.SIGTERM)
    time.sleep(0.2)  # two signals in the same instant are one
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(10) == 0
    assert service.released == [("task-1", 1)]


def test_what_a_killed_worker_had_started_dies_with_it(service: FakeService):
    service.tasks.append(make_task())
    worker, child = start_stuck_worker(service)
    assert os.getpgid(child) == worker.pid
    worker.kill()
    worker.wait(10)

    assert gone_within(child, 5)


def test_a_worker_frozen_until_its_lease_is_gone_throws_its_work_away_and_goes_on(service: FakeService):
    service.tasks.append(make_task("a", lease_seconds=0.6))
    worker, _ = start_stuck_worker(service, "--stuck-seconds", "2")
    worker.send_signal(signal.SIGSTOP)
    service.stale.add("a")
    service.tasks.append(make_task("b"))
    worker.send_signal(signal.SIGCONT)

    assert service.wait_for(lambda: "b" in service.results)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    assert list(service.results) == ["b"]
    assert not service.failures
    assert service.released == []


def test_a_result_that_is_still_on_its_way_does_not_keep_a_worker_from_ending(service: FakeService):
    service.takes_results.clear()
    service.tasks += [make_task("a"), make_task("b")]
    worker, _ = start_stuck_worker(service, "--stuck-seconds", "0", "--ending-seconds", "1")
    assert service.wait_for(lambda: len(service.leases) >= 3)  # both passes are over, and nothing else waits
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(10) == 0
    service.takes_results.set()
    assert sorted(service.released) == [("a", 1), ("b", 1)]


def test_a_log_that_nobody_watches_is_json(service: FakeService):
    service.tasks.append(make_task())
    worker = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.worker.lifetime.stuck",
            "--service",
            service.url,
            "--stuck-seconds",
            "0",
            "--once",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        timeout=60,
        check=True,
    )

    events = [json.loads(line)["event"] for line in worker.stderr.splitlines()]
    assert events == ["worker started", "task leased", "task done", "worker ended"]


def test_a_worker_with_transformers_scores_a_real_checkpoint(service: FakeService, tmp_path: Path):
    make_checkpoint(tmp_path / "runs" / "checkpoint-1")
    checkpoint = str(tmp_path / "runs" / "checkpoint-1")
    sampling = Sampling(samples=3, max_tokens=8)
    service.tasks += [
        make_task("train", checkpoint=checkpoint, sampling=sampling),
        make_task("test", kind="test", checkpoint=checkpoint, sampling=sampling),
        make_task("elsewhere", checkpoint="/etc"),
    ]

    ended = run_worker(
        service, "--engine", "transformers", "--checkpoint-root", str(tmp_path / "runs"), "--exit-when-idle", "0"
    )

    assert ended.returncode == 0, ended.stderr
    train, produced_by = check(service.results["train"][0], start=0, stop=3, samples=3, kind="train")
    assert train["skipped"].null_count() == 3
    assert (train["perplexity"] > 1.0).all()
    assert produced_by["engine"] == "transformers"
    assert produced_by["dtype"] == "float32"
    assert len(produced_by["tokenizer"]) == 64
    assert re.fullmatch(r"LlamaForCausalLM \S+k", produced_by["model"])
    check(service.results["test"][0], start=0, stop=3, samples=3, kind="test")
    ((task, report),) = service.failures
    assert task == "elsewhere"
    assert report.permanent
    assert report.checkpoint
    assert "/etc" in report.error


def test_a_worker_whose_engine_is_not_installed_says_so_before_it_takes_a_task(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    service.tasks.append(make_task())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    assert main(["--service", service.url, "--engine", "vllm"]) == 2
    assert "the vllm engine needs vllm, which is not installed" in capsys.readouterr().err
    assert not service.leases


def test_a_worker_without_an_engine_grades_anew_and_takes_nothing_else(service: FakeService):
    task = make_task(stop=2, grader=GraderChoice(name="exact"))
    service.sources["again"] = run_pass(task, examples(2), FakeEngine(), grading=Comparing(), stopped=lambda: False)
    service.tasks.append(task.model_copy(update={"id": "again", "regrade": True}))

    ended = run_worker(service, "--engine", "none", "--exit-when-idle", "0.5")

    assert ended.returncode == 0, ended.stderr
    assert service.frame("again")["verdicts"].to_list() == [["wrong", "wrong"]] * 2
    assert {request.engine for request in service.leases} == {None}


def test_a_worker_that_is_turned_away_says_what_to_do(service: FakeService):
    service.answers_with = problem(401, "/problems/unauthorized", "this key is not known")

    ended = run_worker(service)

    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == (
        f"premem worker: {service.url} refuses this worker: this key is not known. "
        "Set PREMEM_API_KEY to a key of that service."
    )
