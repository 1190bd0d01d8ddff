"""The workers that are connected, on the command line."""

import json
from datetime import UTC, datetime

from premem.wire.bodies import Page
from premem.wire.estimates import WorkerReply
from tests.premem.commands import premem
from tests.premem.steered import Reply, Steered

SEEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_workers_are_listed_with_what_they_run_on():
    gpu = WorkerReply(name="a", engine="vllm", device="NVIDIA H100 80GB HBM3", seen_at=SEEN)
    grading = WorkerReply(name="b", engine=None, device=None, seen_at=SEEN)
    page = Page(items=[gpu, grading], next_cursor=None)
    with Steered() as service:
        service.on("GET /v1/workers", Reply(page))

        lines = premem(service.url, "workers").stdout.splitlines()
        told = json.loads(premem(service.url, "workers", "--json").stdout)

    assert lines[1].split() == ["a", "vllm", "NVIDIA", "H100", "80GB", "HBM3", "03:04:05"]
    assert lines[2].split() == ["b", "none", "–", "03:04:05"]
    assert told["items"] == [gpu.model_dump(mode="json"), grading.model_dump(mode="json")]
