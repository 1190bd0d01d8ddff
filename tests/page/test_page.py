"""The page in a real browser, on a service that listens, beside what the API says."""

from __future__ import annotations

from math import ceil
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from playwright.sync_api import Page, Request, expect

from premem.client.client import Client
from premem.method.memorization import pre_memorization_accuracies
from premem_service.web.pages import WEB
from tests.page.browsing import HOSTILE, needs_chromium, observe, post
from tests.service.working import ended, lease, put, result, work_off

pytestmark = needs_chromium


def at(url: str, job: str, page: Page) -> None:
    page.goto(f"{url}/#/jobs/{job}")
    page.wait_for_selector("canvas.map[data-milliseconds]")


def test_a_job_that_drew_a_part_shows_its_scores_and_what_it_saved(url, page):
    with httpx.Client(base_url=url) as client:
        job = post(client, "a part", "final")
        work_off(client, observe)
        state = ended(client, job)
        report = client.get(f"/v1/jobs/{job}/report").json()

    at(url, job, page)

    assert page.locator("#threshold").is_disabled()
    assert "everything" in page.inner_text("#fixed")
    score = report["checkpoints"][-1]["pre_memorization_accuracy"]
    assert float(page.inner_text("#score")) == pytest.approx(score, abs=6e-4)
    assert state["counts"]["samples_saved"] > 0
    assert f"{state['counts']['samples_saved']:,}" in page.inner_text(".facts")


def test_tokens_per_second_are_those_of_the_engines_while_they_had_work(url, page):
    with httpx.Client(base_url=url) as client:
        job = post(client, "pace")
        while (task := lease(client)) is not None:
            put(client, task, result(task, observe, engine_seconds="0.25"))
        state = ended(client, job)
        counts = state["counts"]

    at(url, job, page)

    assert counts["engine_seconds"] == 0.25 * counts["tasks"]["total"]
    assert state["tokens_per_second"] == pytest.approx(counts["tokens"] / counts["engine_seconds"])
    assert f"{int(state['tokens_per_second'] + 0.5):,}/s" in page.inner_text(".facts")
    page.goto(url)
    expect(page.locator("tr", has=page.get_by_role("link", name="pace")).locator("td").last).to_have_text(
        f"{ceil(counts['engine_seconds'])} s"
    )


def test_the_slider_computes_what_the_method_computes(url, job, page):
    at(url, job, page)
    with Client(url) as client:
        matrix = client.matrix(job)
    accuracy_CE, perplexity_CE = matrix.accuracy_CE.astype(float), matrix.perplexity_CE.astype(float)

    for below in (1.3, 1.1, 1.75):
        page.fill("#threshold", str(below))
        expect(page.locator("#below")).to_have_text(f"{below:.3f}")
        expected = pre_memorization_accuracies(accuracy_CE, perplexity_CE, memorized_below=below)[-1]
        assert float(page.inner_text("#score")) == pytest.approx(expected.mean(), abs=6e-4)


def test_the_twin_holds_what_was_not_drawn_to_be_unknown(url, page):
    page.goto(url)
    found: Any = page.evaluate(
        """async () => {
            const { preMemorizationAccuracies } = await import("/static/parts/memorization.js");
            const matrix = { whole: true, C: 2, E: 3, accuracy: [0.5, NaN, 0.75, 1, 1, 0.25], perplexity: [1.2, 2, 1.3, 1, 2, 2] };
            return [...preMemorizationAccuracies(matrix, 1.2)].map((x) => (Number.isNaN(x) ? null : x));
        }"""
    )

    assert found == [0.5, None, 0.75, 0.5, None, 0.25]


def test_a_click_on_the_heatmap_opens_the_example(url, job, page):
    at(url, job, page)
    with Client(url) as client:
        lowest = client.examples(job, limit=1).items[0]

    page.click("canvas.map", position={"x": 5, "y": 2})
    page.wait_for_selector("ins")

    assert page.inner_text("h1") == f"Example {lowest.id}"
    assert page.url.endswith(f"/examples/{lowest.row}")
    assert page.locator("section.card b").count() == 15


def test_hostile_texts_are_shown_as_text(url, job, page):
    page.goto(f"{url}/#/jobs/{job}/examples/3")
    page.wait_for_selector("pre")

    assert page.locator("pre").first.inner_text() == f"{HOSTILE} 3 + 1?"
    assert page.locator("img, main script").count() == 0
    assert page.title() == "premem"


def test_a_job_is_followed_until_its_scores_are_there(url, job, page):
    with httpx.Client(base_url=url) as client:
        running = post(client, "live")
        page.goto(url)
        page.get_by_role("link", name="live").click()
        page.get_by_text("Scores are shown here").wait_for()
        work_off(client, observe)

    page.wait_for_selector("canvas.map[data-milliseconds]")
    assert page.url.endswith(running)


def test_scripts_come_from_here_only_and_stay_small(url):
    answer = httpx.get(url)
    policy = answer.headers["Content-Security-Policy"]
    scripts = [str(file.relative_to(WEB)) for file in WEB.rglob("*.js")]

    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert sum(len(httpx.get(f"{url}/static/{name}").content) for name in scripts) < 200_000
    assert httpx.get(f"{url}/static/../app.py").status_code == 404
    assert httpx.get(f"{url}/static/%2e%2e/app.py").status_code == 404


def test_a_first_look_at_a_thousand_examples_takes_little_of_the_network(url, page):
    with httpx.Client(base_url=url) as client:
        job = post(client, "a thousand", rows=1_000, checkpoints=6)
        work_off(client, observe)
        ended(client, job)
    answered: list[Request] = []
    page.on("requestfinished", lambda request: answered.append(request))

    at(url, job, page)
    page.wait_for_load_state("networkidle")

    sizes = [request.sizes() for request in answered]
    bodies = {urlsplit(one.url).path: size["responseBodySize"] for one, size in zip(answered, sizes, strict=True)}
    assert {"/", "/static/app.js", "/static/vendor/uPlot.js", f"/v1/jobs/{job}/report"} <= set(bodies)
    assert bodies[f"/v1/jobs/{job}/matrix"] == 8 + 8 * 1_000 + 8 * 6 * 1_000
    assert sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes) < 200_000, bodies


def test_files_are_sent_packed_and_not_again_while_they_stay_the_same(url):
    path = f"{url}/static/app.js"
    packed, plain = (httpx.get(path, headers={"Accept-Encoding": coding}) for coding in ("gzip", "identity"))
    again = httpx.get(path, headers={"If-None-Match": packed.headers["ETag"]})

    assert packed.headers["Content-Encoding"] == "gzip"
    assert int(packed.headers["Content-Length"]) < len(plain.content) / 2
    assert packed.content == plain.content == (WEB / "app.js").read_bytes()
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["Content-Security-Policy"] == packed.headers["Content-Security-Policy"]


def test_a_matrix_reads_as_it_was_ranked(url, job):
    with Client(url) as client:
        matrix, ranked = client.matrix(job), list(client.iter_examples(job))

    assert matrix.row_E.tolist() == [example.row for example in ranked]
    assert np.allclose(matrix.accuracy_CE.T, [example.accuracy for example in ranked])
    assert np.allclose(matrix.perplexity_CE.T, [example.perplexity for example in ranked])
