"""How long the page of a job takes until its heatmap is drawn, and how much of the network.

    python -m benchmarks.page_load [--rows 1000] [--checkpoints 6] [--rounds 7] [--chromium PATH] [--keep]

A private service gets a run as if others had recorded it. Chromium opens the job's page with nothing in its cache, then
once more; both from the start of the navigation to the first frame after the heatmap was painted, by the page's own
clock. Needs Playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import BrowserContext, Request, sync_playwright

from benchmarks.measured import Measured, Ratio, header
from premem import Client
from premem.forecasting.runs import ScoredRun
from premem.local import LocalService
from premem.payloads.recordings import described

SAMPLES = 5
DRAWN = "() => document.querySelector('canvas.map[data-milliseconds]') && performance.now()"
"""Asked at every frame."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--checkpoints", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--chromium", default=os.environ.get("CHROMIUM") or shutil.which("chromium"))
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    print(header())
    measured = Measured(
        "page_load",
        f"The page of a job with {arguments.rows:,} examples x {arguments.checkpoints} checkpoints until its heatmap is drawn, in "
        "Chromium beside the service.",
    )
    fresh, again, kilobytes = [], [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalService(Path(folder), checkpoint_roots=[], workers=0) as local,
        Client(local.url) as client,
        sync_playwright() as playwright,
    ):
        url = f"{local.url}/#/jobs/{recorded(client, arguments.rows, arguments.checkpoints)}"
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
        loaded(browser.new_context(), url)  # of the browser's own start
        for _ in range(arguments.rounds):
            context = browser.new_context()
            for into in (fresh, again):
                milliseconds, taken = loaded(context, url)
                into.append(milliseconds)
                kilobytes.append(taken / 1_000)
            context.close()
        browser.close()
    measured.tell(
        Ratio("the first look", "nothing cached", fresh, "once more", again, "ms", aim="the first under 1,000 ms")
    )
    measured.note("spread of the first looks", f"{min(fresh):,.0f} to {max(fresh):,.0f} ms")
    measured.note("transferred, headers included", " and ".join(f"{one:,.0f} kB" for one in medians(kilobytes)))
    if arguments.keep:
        measured.keep()


def recorded(client: Client, rows: int, checkpoints: int) -> str:
    """A completed job whose numbers are drawn at random, which packs worst."""
    chance = np.random.default_rng(0)
    lines = [json.dumps({"question": f"{row} + 1?", "answer": f"#### {row + 1}"}) for row in range(rows)]
    dataset = client.upload(io.BytesIO("\n".join(lines).encode())).id
    run = ScoredRun(
        name="page load",
        checkpoints=tuple(f"step-{number}" for number in range(checkpoints)),
        accuracy_CE=chance.integers(0, SAMPLES + 1, (checkpoints, rows)) / SAMPLES,
        perplexity_CE=1 + chance.exponential(0.3, (checkpoints, rows)),
        samples=SAMPLES,
        test_accuracy_C=np.full(checkpoints, np.nan),
    )
    about = described(run, dataset=dataset, model="drawn at random", memorized_below=1.2)
    job = client.wait(client.import_recorded(run, about).id)
    if job.state != "completed":
        raise SystemExit(f"the job is {job.state}: {job.errors}")
    return job.id


def loaded(context: BrowserContext, url: str) -> tuple[float, int]:
    """Milliseconds until the heatmap is drawn, in a page of its own, and the bytes that came until then."""
    page = context.new_page()
    answered: list[Request] = []
    page.on("requestfinished", lambda request: answered.append(request))
    page.goto(url, wait_until="commit")
    milliseconds: float = page.wait_for_function(DRAWN).json_value()
    page.wait_for_load_state("networkidle")
    sizes = [request.sizes() for request in answered]
    page.close()
    return milliseconds, sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes)


def medians(turns: list[float]) -> tuple[float, float]:
    """Of the first looks and of the second ones, which came in turns."""
    return statistics.median(turns[::2]), statistics.median(turns[1::2])


if __name__ == "__main__":
    main()
