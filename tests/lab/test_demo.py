from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from lab.demo import fresh, is_free, wrong_answer
from premem.errors import InputError
from premem.records import Verdict
from premem.wire.examples import AnswerReply, CheckpointAnswers, ExampleDetail, IntervalReply
from premem.wire.jobs import ThresholdReply

REPOSITORY = Path(__file__).parents[2]


def answers(checkpoint: str, *texts: tuple[str, Verdict], memorized: bool = False) -> CheckpointAnswers:
    return CheckpointAnswers(
        checkpoint=checkpoint,
        perplexity=1.5,
        memorized=memorized,
        accuracy=0.5,
        answers=[
            AnswerReply(text=text, verdict=verdict, extracted=None, tokens=3, finished=True) for text, verdict in texts
        ],
    )


def example(*checkpoints: CheckpointAnswers) -> ExampleDetail:
    return ExampleDetail(
        rank=0,
        row=0,
        id="train-0000",
        question="How many?",
        trace="#### 3",
        final_answer=None,
        columns={},
        pre_memorization_accuracy=0.0,
        mean_accuracy=0.0,
        accuracy=[0.5],
        perplexity=[1.5],
        memorized=[False],
        interval=IntervalReply(low=0.0, high=0.4),
        checkpoints=list(checkpoints),
        threshold=ThresholdReply(memorized_below=1.4, basis="number", source="given", forecast_reason="none"),
    )


def run_demo(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lab.demo", "--folder", str(folder), "--engine", "transformers", *arguments],
        cwd=REPOSITORY,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_wrong_answer_shown_is_the_last_one_from_before_the_trace_was_memorized() -> None:
    shown = wrong_answer(
        example(
            answers("early", ("#### 1", "wrong")),
            answers("late", ("#### 3", "right"), ("#### 2", "wrong")),
            answers("memorized", ("#### 9", "wrong"), memorized=True),
        )
    )

    assert shown == "#### 2\n(wrong, late)"


def test_an_example_without_a_wrong_answer_says_so() -> None:
    assert "every sampled answer is right" in wrong_answer(example(answers("late", ("#### 3", "right"))))


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert not is_free(port)
    assert is_free(port)


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    with fresh(tmp_path), pytest.raises(InputError, match="another demo"), fresh(tmp_path):
        pass


def test_a_new_demo_begins_without_the_checkpoints_of_the_last_one(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoint-1").mkdir(parents=True)
    (tmp_path / "mine.txt").touch()

    with fresh(tmp_path):
        assert not (tmp_path / "run").exists()
        assert (tmp_path / "mine.txt").exists()


def test_a_small_demo_goes_all_the_way_and_ends_by_itself(tmp_path: Path) -> None:
    done = run_demo(tmp_path, "--examples", "16", "--epochs", "2", "--every", "1")

    assert done.returncode == 0, done.stdout + done.stderr
    for heading in ("train accuracy", "pre-memorization accuracy", "test accuracy", "The 10 lowest"):
        assert heading in done.stdout
    assert [folder.name for folder in sorted((tmp_path / "run").iterdir())] == ["checkpoint-1", "checkpoint-2"]
    curated = [json.loads(line) for line in (tmp_path / "curated.jsonl").read_text().splitlines()]
    assert {"question", "answer", "verbs", "premem"} <= set(curated[0])
    url = re.search(r"the service listens on (\S+);", done.stdout)
    assert url
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url[1]}/healthz", trust_env=False)


def test_a_demo_whose_worker_dies_fails_and_shows_the_end_of_its_log(tmp_path: Path) -> None:
    done = run_demo(tmp_path, "--examples", "16", "--epochs", "1", PREMEM_WORKER_GRADERS="0")

    assert done.returncode == 1
    assert "worker-1 ended with status 2" in done.stderr
    assert "graders" in done.stderr
