"""How fast a ranked page and the curated subset come out of a large job, and what finalizing it takes.

A real service in a process of its own gets a data set, a job over six checkpoints and a result for every task, by the
same routes as from a worker. Beside the page stands what reading the whole file of scores for each page would take.
Run from the repository: `python benchmarks/pages.py [--rows 1000000] [--checkpoints 6]`.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))
from benchmarks.upload import free_port, machine, peak_mb, upload, wait_until_ready  # noqa: E402
from premem.payloads.results import GROUP_ROWS, PRODUCED_BY, SCHEMA, WEIGHTS  # noqa: E402

SAMPLES = 5
SHARD_ROWS = 16_384
PAGES = 40
PAGE_ROWS = 50
MOST_PAGE_MS = 50


def result(task: dict[str, Any], chance: np.random.Generator) -> bytes:
    """As a worker would send it, its numbers drawn at random: accuracies of a few values, so that there are ties."""
    rows = np.arange(task["start"], task["stop"])
    right = chance.random((rows.size, SAMPLES)) < chance.choice([0.0, 0.2, 0.6, 0.9], (rows.size, 1))
    verdicts = np.where(right, "right", "wrong")
    texts = np.char.add("We add both numbers and find #### ", chance.integers(0, 2000, right.shape).astype(str))
    frame = pl.DataFrame(
        {
            "row": rows,
            "skipped": pl.Series([None] * rows.size, dtype=pl.String),
            "perplexity": 1 + chance.exponential(0.3, rows.size),
            "target_tokens": np.full(rows.size, 60),
            "span_shifted": np.zeros(rows.size, bool),
            "texts": texts.tolist(),
            "verdicts": verdicts.tolist(),
            "extracted": texts.tolist(),
            "tokens": np.full(right.shape, 12).tolist(),
            "finished": np.ones(right.shape, bool).tolist(),
            "similarities": chance.random(right.shape).tolist(),
        },
        schema=SCHEMA,
    )
    out = io.BytesIO()
    metadata = dict.fromkeys((*PRODUCED_BY, WEIGHTS), "benchmark")
    frame.write_parquet(out, compression="zstd", row_group_size=GROUP_ROWS, metadata=metadata)
    return out.getvalue()


def score(client: httpx.Client, dataset: str, checkpoints: int) -> tuple[str, float]:
    """A completed job, and the seconds from its last result to its end."""
    request = {
        "dataset": dataset,
        "checkpoints": [{"path": f"/runs/checkpoint-{number}"} for number in range(checkpoints)],
        "sampling": {"samples": SAMPLES},
        "memorized_below": 1.2,
        "trajectory": "everything",  # one task per shard and checkpoint, with all of its answers
        "shard_rows": SHARD_ROWS,
    }
    job = client.post("/v1/jobs", json=request).raise_for_status().json()["id"]
    chance = np.random.default_rng(0)
    while (answer := client.post("/v1/tasks/lease", json={"worker": "w", "engine": "e"})).status_code == 200:
        task = answer.json()
        sent = client.put(
            f"/v1/tasks/{task['id']}/result", params={"attempt": task["attempt"]}, content=result(task, chance)
        )
        assert sent.status_code == 200, sent.text
    assert answer.status_code == 204, answer.text
    start = time.perf_counter()
    while (seen := client.get(f"/v1/jobs/{job}").json())["state"] not in ("completed", "failed"):
        time.sleep(0.05)
    assert seen["state"] == "completed", seen["errors"]
    return str(job), time.perf_counter() - start


def page_milliseconds(client: httpx.Client, job: str, rows: int) -> list[float]:
    """Of pages all over the ranking, each seen from the client."""
    chance, milliseconds = random.Random(0), []
    for _ in range(PAGES):
        first = chance.randrange(rows - PAGE_ROWS)
        start = time.perf_counter()
        page = client.get(f"/v1/jobs/{job}/examples", params={"start": first, "limit": PAGE_ROWS})
        milliseconds.append(1000 * (time.perf_counter() - start))
        assert len(page.json()["items"]) == PAGE_ROWS, page.text
    return milliseconds


def whole_file_milliseconds(scores: Path, rows: int) -> float:
    """Of reading everything for one page of it."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        assert pl.read_parquet(scores).slice(rows // 2, PAGE_ROWS).to_dicts()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def export(client: httpx.Client, job: str, form: str) -> tuple[int, float, float]:
    """Rows, seconds to the first byte, and seconds in all."""
    start, first = time.perf_counter(), 0.0
    with client.stream("GET", f"/v1/jobs/{job}/curated", params={"below": 1.0, "format": form}) as stream:
        stream.raise_for_status()
        rows = int(stream.headers["X-Premem-Rows"])
        lines = 0
        for chunk in stream.iter_raw():
            first = first or time.perf_counter() - start
            lines += chunk.count(b"\n")
    assert form != "jsonl" or lines == rows
    return rows, first, time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Times:
    """What was measured of one job."""

    finalizing_seconds: float
    finalized_mb: float
    """Peak memory of the service until then."""
    page_milliseconds: list[float]
    whole_file_milliseconds: float
    scores_bytes: int
    exported: dict[str, tuple[int, float, float]]
    """By format, what `export` says."""
    peak_mb: float


def measure(rows: int, checkpoints: int) -> Times:
    """Of a service of its own, which ends with it."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = [sys.executable, "-m", "premem_service", "--data-dir", folder, "--port", str(port)]
        with (Path(folder) / "log").open("wb") as log:
            service = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log)
        try:
            wait_until_ready(service, port)
            upload(port, rows, "gsm8k")
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=3600) as client:
                dataset = client.get("/v1/datasets").json()["items"][0]["id"]
                job, finalizing = score(client, dataset, checkpoints)
                finalized = peak_mb(service.pid)
                pages = page_milliseconds(client, job, rows)
                exported = {form: export(client, job, form) for form in ("jsonl", "parquet")}
                peak = peak_mb(service.pid)
            scores = next((Path(folder) / "artifacts/scores").rglob("*.parquet"))
            whole, size = whole_file_milliseconds(scores, rows), scores.stat().st_size
        finally:
            service.terminate()
            service.wait(timeout=30)
    return Times(finalizing, finalized, pages, whole, size, exported, peak)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--checkpoints", type=int, default=6)
    arguments = parser.parse_args()
    seen = measure(arguments.rows, arguments.checkpoints)
    pages = seen.page_milliseconds
    median, slowest = statistics.median(pages[1:]), sorted(pages)[round(0.95 * PAGES)]
    whole = seen.whole_file_milliseconds
    print(f"{datetime.now(UTC):%Y-%m-%d} · {machine()} · Python {platform.python_version()}, ", end="")
    print(", ".join(f"{package} {version(package)}" for package in ("fastapi", "polars", "pyarrow")))
    print(f"job                  {arguments.rows:,} examples × {arguments.checkpoints} checkpoints × {SAMPLES} answers")
    print(
        f"finalizing           {seen.finalizing_seconds:.1f} s, {seen.scores_bytes / 1e6:,.0f} MB of scores, ", end=""
    )
    print(f"{seen.finalized_mb:,.0f} MB peak memory")
    print(f"page of {PAGE_ROWS} examples  {median:.1f} ms (first {pages[0]:.1f}, 95% under {slowest:.1f})")
    print(f"whole file per page  {whole:.1f} ms: {whole / median:.1f} times as long")
    for form, (rows, first, seconds) in seen.exported.items():
        print(
            f"export, {form:8s}     {rows:,} rows in {seconds:.1f} s, {rows / seconds:,.0f} rows/s, first byte {first:.1f} s"
        )
    print(f"peak memory          {seen.peak_mb:,.0f} MB")
    print(f"load                 {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, this script's own included")
    return 0 if slowest < MOST_PAGE_MS else 1


if __name__ == "__main__":
    sys.exit(main())
