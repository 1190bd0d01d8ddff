"""The commands of the quickstarts run as they stand there, on a real service and a worker whose engine adds up numbers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from premem.local import LocalService
from premem_worker.checkpoints.located import Located
from premem_worker.lifetime.shutdown import Shutdown
from premem_worker.loop import Worker
from premem_worker.parts import Parts
from premem_worker.settings import Settings
from tests.fakes import Comparing, FakeEngine

PAGES = Path(__file__).parents[2] / "docs" / "quickstart"
ADDRESS = "http://127.0.0.1:8321"


class Learner(FakeEngine):
    """Right three times out of ten, whatever the checkpoint is called."""

    def _skill(self) -> float:
        return 0.3


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    def locate(path: str, base: str | None) -> Located:
        return Located(Path(path), "usual", "FakeForCausalLM 1k")

    shutdown = Shutdown()
    with LocalService(tmp_path_factory.mktemp("service"), checkpoint_roots=[], workers=0) as local:
        parts = Parts("fake", Learner, None, locate, lambda choice: Comparing())
        worker = Worker(Settings(service=local.url, name="w1", graders=1), parts, shutdown=shutdown)
        thread = threading.Thread(target=worker.run)
        thread.start()
        yield local.url
        shutdown.request()
        thread.join(30)
        worker.close()
        assert not thread.is_alive()


def run(page: str, url: str, folder: Path) -> str:
    """What the page's commands print, all of them in one shell that ends at the first that fails."""
    rows = [{"question": f"{n} + {n + 1}?", "answer": f"#### {2 * n + 1}"} for n in range(12)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in (100, 200):
        (folder / "out" / f"checkpoint-{step}").mkdir(parents=True)
    blocks = re.findall(r"```bash\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)
    assert blocks
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREMEM_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks).replace(ADDRESS, url)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_command_line_page_runs(url, tmp_path):
    shown = run("command-line.md", url, tmp_path)

    job = json.loads((tmp_path / "scored.json").read_text())["job"]["id"]
    low = [json.loads(line) for line in (tmp_path / "low.jsonl").read_text().splitlines()]
    assert "checkpoint-100" in shown
    assert len(set(re.findall(r"\d+ \+ \d+\?", shown))) >= 10  # the second list may name others
    assert low
    assert all(row["premem"]["pre_memorization_accuracy"] < 0.5 for row in low)
    assert json.loads((tmp_path / "low.jsonl.lineage.json").read_text())["job"] == job
    assert pl.read_parquet(tmp_path / "curated" / "data").height == len(low)
    assert job in (tmp_path / "report.html").read_text()


def test_the_curl_page_runs(url, tmp_path):
    shown = run("curl.md", url, tmp_path)

    low = [json.loads(line) for line in (tmp_path / "low.jsonl").read_text().splitlines()]
    told = json.loads((tmp_path / "low.jsonl.lineage.json").read_text())
    assert "completed" in shown
    assert shown.rstrip().endswith("there is no job none")
    assert (told["rows"], told["grader"]["name"]) == (len(low), "gsm8k")
    assert [one["path"] for one in told["checkpoints"]] == ["/runs/mine/checkpoint-100", "/runs/mine/checkpoint-200"]
    assert pl.read_parquet(tmp_path / "low.parquet")["question"].to_list() == [row["question"] for row in low]


def test_the_page_of_the_page_runs(url, tmp_path):
    shown = run("page.md", url, tmp_path)

    assert re.fullmatch(re.escape(url) + r"/#/jobs/job_\w+\n", shown)


def test_every_quickstart_is_linked_from_the_readme():
    readme = (PAGES.parents[1] / "README.md").read_text()

    assert [page.name for page in PAGES.glob("*.md") if f"docs/quickstart/{page.name}" not in readme] == []
