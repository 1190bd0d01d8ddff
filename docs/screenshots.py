"""Pictures of the page for README and docs: `python -m docs.screenshots http://127.0.0.1:8321 [--chromium PATH]`.

Of the newest completed job of a service that runs, such as the one that `make demo` leaves behind in its folder.
Needs Playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from premem.client.client import Client

FOLDER = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("service")
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    asked = parser.parse_args()
    with Client(asked.service) as client:
        job = next((one.id for one in client.jobs() if one.state == "completed" and one.kind == "score"), None)
    if job is None:
        parser.error(f"{asked.service} has no completed job: run `make demo`, then `premem serve` over its folder")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=asked.chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1180, "height": 900})
        page.goto(f"{asked.service}/#/jobs/{job}")
        page.wait_for_selector("canvas.map[data-milliseconds]")
        _take(page, "page-job.png")
        page.locator("canvas.map").click(position={"x": 500, "y": 60})
        page.wait_for_selector("ins, del")
        _take(page, "page-example.png")
        page.goto(f"{asked.service}/#/jobs/{job}/examples")
        page.wait_for_selector(".body .row b")
        _take(page, "page-ranked.png")
        page.goto(f"{asked.service}/#/jobs/{job}/curate")
        page.check("#compare")
        page.wait_for_selector("#both")
        _take(page, "page-curate.png")
        browser.close()


def _take(page: Page, name: str) -> None:
    page.screenshot(path=FOLDER / name, full_page=name == "page-job.png")
    print(FOLDER / name)


if __name__ == "__main__":
    main()
