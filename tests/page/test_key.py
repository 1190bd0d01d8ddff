"""The page of a service that needs a key."""

from __future__ import annotations

from pathlib import Path

import httpx
from playwright.sync_api import expect

from premem_service.settings import Settings
from tests.page.browsing import listening, needs_chromium, observe, post
from tests.service.working import ended, work_off

pytestmark = needs_chromium
KEY = "a key that only this test has"


def test_the_key_is_asked_for_and_goes_with_every_request_and_download(browser, tmp_path):
    with (
        listening(Settings(data_dir=tmp_path, api_key=KEY, round_seconds=0.05)) as url,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}) as client,
        browser.new_page() as page,
    ):
        job = post(client, "locked", rows=8)
        work_off(client, observe)
        ended(client, job)
        curated = client.get(f"/v1/jobs/{job}/curated", params={"policy": "lowest", "below": 1, "seed": 0}).content

        page.goto(f"{url}/#/jobs/{job}/curate")
        page.fill("#key", KEY)
        page.get_by_role("button", name="Continue").click()
        page.fill("#one [name=below]", "1")
        page.wait_for_selector("[data-query*='below=1'] #chosen")
        with page.expect_download() as download:
            page.get_by_role("link", name="Download JSONL").click()

        assert Path(download.value.path()).read_bytes() == curated
        assert "$PREMEM_API_KEY" in page.inner_text("[data-line=curl]")
        assert KEY not in page.inner_text("main")


def test_a_running_job_is_followed_with_the_key(browser, tmp_path):
    with (
        listening(Settings(data_dir=tmp_path, api_key=KEY, round_seconds=0.05)) as url,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}) as client,
        browser.new_page() as page,
    ):
        job = post(client, "live", rows=8)
        page.goto(f"{url}/#/jobs/{job}")
        page.fill("#key", KEY)
        page.get_by_role("button", name="Continue").click()
        page.get_by_text("Scores are shown here").wait_for()

        work_off(client, observe)

        expect(page.locator("canvas.map")).to_be_visible()
