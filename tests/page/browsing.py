"""What the page's tests show, and where they look at it."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
import uvicorn

from premem.records import Observation
from premem_service.app import create_app
from premem_service.settings import Settings
from tests.end_to_end.processes import await_that

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
