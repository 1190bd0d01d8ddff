"""A service that listens, and a real browser to look at its page with."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright

from premem.records import Observation
from premem_service.app import create_app
from premem_service.settings import Settings
from tests.end_to_end.processes import await_that
from tests.service.working import ended, work_off

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
ROWS = 40
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it, or name it in CHROMIUM")


@contextmanager
def listening(settings: Settings) -> Iterator[str]:
    """The address of a service with these settings."""
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        await_that(lambda: server.started, seconds=60, what="the service to listen")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder under which the service may read checkpoints; empty."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, runs: Path) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("page")
    with listening(Settings(data_dir=folder, checkpoint_roots=[runs], round_seconds=0.05)) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A new page, of which the console stays without an error."""
    page = browser.new_page()
    page.set_default_timeout(15_000)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert errors == []


def observe(checkpoint: str, row: int) -> Observation:
    chance = np.random.default_rng([row, int(checkpoint[-1])])
    return Observation(correct=int(chance.integers(0, 6)), sampled=5, perplexity=float(chance.uniform(1.02, 2.0)))


def post(
    client: httpx.Client, name: str, trajectory: str = "everything", *, rows: int = ROWS, checkpoints: int = 3
) -> str:
    lines = [{"question": f"{HOSTILE} {n} + 1?", "answer": f"It is {n + 1}.\n#### {n + 1}"} for n in range(rows)]
    dataset = client.post("/v1/datasets", content="\n".join(map(json.dumps, lines))).json()["id"]
    body = {
        "dataset": dataset,
        "name": name,
        "checkpoints": [{"path": f"/r/step-{m}"} for m in range(1, checkpoints + 1)],
        "memorized_below": 1.3,
        "trajectory": trajectory,
    }
    job: str = client.post("/v1/jobs", json=body).json()["id"]
    return job


@pytest.fixture(scope="module")
def job(url: str) -> str:
    """A completed job whose questions and name try to be HTML."""
    with httpx.Client(base_url=url) as client:
        job = post(client, HOSTILE)
        work_off(client, observe)
        assert ended(client, job)["state"] == "completed"
    return job
