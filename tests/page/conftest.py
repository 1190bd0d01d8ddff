"""A service that listens, and a real browser to look at its page with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from premem_service.settings import Settings
from tests.page.browsing import CHROMIUM, HOSTILE, listening, observe, post
from tests.service.working import ended, work_off


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


@pytest.fixture(scope="module")
def job(url: str) -> str:
    """A completed job whose questions and name try to be HTML."""
    with httpx.Client(base_url=url) as client:
        job = post(client, HOSTILE)
        work_off(client, observe)
        assert ended(client, job)["state"] == "completed"
    return job
