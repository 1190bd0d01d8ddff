"""`premem score` without a service: its own service and worker, as real processes on a tiny model."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.checkpoints import make_checkpoint

HOUSE = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.jsonl and two checkpoints."""
    folder = tmp_path_factory.mktemp("run")
    rows = [{"question": f"{n} + 1?", "answer": f"It is {n + 1}. #### {n + 1}"} for n in range(4)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in (112, 28):
        make_checkpoint(folder / f"checkpoint-{step}", seed=step)
    return folder


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREMEM_")}
    # Standing elsewhere: nothing may depend on where the user stands.
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "premem",
            "score",
            *map(str, arguments),
            "--samples",
            "2",
            "--max-tokens",
            "8",
            "--engine",
            "transformers",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**environment, "OMP_NUM_THREADS": "1"},
    )


def score(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    process = start(*arguments)
    out, errors = process.communicate(timeout=240)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def service_answers(kept: Path) -> bool:
    url = re.search(r"^premem listens on (\S+)", (kept / "service.log").read_text(), re.MULTILINE)[1]
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def interrupted(run: Path) -> subprocess.CompletedProcess[str]:
    """Ctrl-C once the job is under way."""
    process = start(run / "train.jsonl", run / "checkpoint-112", run / "checkpoint-28")
    errors = ""
    for line in process.stderr:
        errors += line
        if line.startswith("scoring: "):
            process.send_signal(signal.SIGINT)
            break
    out, rest = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors + rest)


@pytest.fixture(scope="module")
def finished(run: Path, interrupted: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The same command again."""
    return score(run / "train.jsonl", run / "checkpoint-112", run / "checkpoint-28")


def test_ctrl_c_leaves_nothing_running_and_loses_nothing(run, interrupted):
    assert interrupted.returncode == 130
    assert "run the same command again to go on" in interrupted.stderr
    assert "Traceback" not in interrupted.stderr
    assert not service_answers(run / "train.premem")


def test_the_same_command_goes_on_and_writes_beside_the_data(run, finished):
    assert finished.returncode == 0, finished.stderr
    assert "going on with job" in finished.stderr
    assert [line.split()[0] for line in finished.stdout.splitlines()[1:3]] == ["checkpoint-28", "checkpoint-112"]
    scores = [json.loads(line) for line in (run / "train.scores.jsonl").read_text().splitlines()]
    assert sorted(item["row"] for item in scores) == [0, 1, 2, 3]
    assert [item["rank"] for item in scores] == [0, 1, 2, 3]
    curated = [json.loads(line) for line in (run / "train.curated.jsonl").read_text().splitlines()]
    assert all(row["premem"]["pre_memorization_accuracy"] < 0.5 for row in curated)
    assert {"question", "answer", "premem"} == set(curated[0])
    report = json.loads((run / "train.report.json").read_text())
    assert [line["checkpoint"] for line in report["checkpoints"]] == ["checkpoint-28", "checkpoint-112"]
    assert not service_answers(run / "train.premem")


def test_what_was_scored_is_not_scored_again_until_a_checkpoint_changes(run, finished):
    before = json.loads((run / "train.report.json").read_text())
    asked = (run / "train.jsonl", run / "checkpoint-112", run / "checkpoint-28", "--json")

    again = score(*asked)
    (run / "checkpoint-28" / "note.txt").write_text("another file")
    changed = json.loads(score(*asked).stdout)

    assert "scored before" in again.stderr
    assert json.loads(again.stdout)["report"] == before
    assert changed["job"]["id"] != before["job"]
    assert changed["report"]["checkpoints"] == before["checkpoints"]


def test_a_checkpoint_without_weights_fails_with_the_reason(run, tmp_path):
    (tmp_path / "checkpoint-1").mkdir()

    shown = score(run / "train.jsonl", tmp_path / "checkpoint-1", "--out", tmp_path / "results")

    assert shown.returncode == 1
    assert "checkpoint-1" in shown.stderr
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["train.premem"]
