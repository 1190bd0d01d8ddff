"""Calibrations on the page: every point of the API is drawn, where it says."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.page.browsing import needs_chromium
from tests.service.recording import imported, made_run

pytestmark = needs_chromium
ROWS = 60


def test_without_a_calibration_it_says_what_makes_one(url, page):
    page.goto(f"{url}/#/calibrations")

    page.wait_for_selector("pre")
    assert "premem calibrate" in page.inner_text("main")


def test_forecasts_and_thresholds_are_drawn_as_the_api_tells_them(url, page):
    with httpx.Client(base_url=url, timeout=60) as client:
        lines = [json.dumps({"question": f"{n} + 3?", "answer": f"#### {n + 3}"}) for n in range(ROWS)]
        questions = client.post("/v1/datasets", content="\n".join(lines)).json()["id"]
        jobs = [imported(client, made_run(seed, examples=ROWS), questions) for seed in range(1, 5)]
        made = client.post("/v1/calibrations", json={"name": "sums", "jobs": jobs}).json()

    page.goto(f"{url}/#/calibrations")
    page.wait_for_selector(".calibration .plot")

    dots = page.locator(".dot").evaluate_all(
        "dots => dots.map((dot) => [Number(dot.getAttribute('cx')), Number(dot.getAttribute('cy'))])"
    )
    assert dots == [
        pytest.approx([36 + 228 * point["forecast"], 300 - (36 + 228 * point["test"])]) for point in made["points"]
    ]
    assert f"{made['memorized_below']:.4f}" in page.inner_text(".calibration")
    assert page.locator(".curve").count() == 1
    assert page.locator(".band").count() == (1 if made["band"] else 0)


def test_a_forecast_stands_among_the_curves_of_its_job(url, page):
    with httpx.Client(base_url=url, timeout=60) as client:
        lines = [json.dumps({"question": f"{n} + 5?", "answer": f"#### {n + 5}"}) for n in range(ROWS)]
        questions = client.post("/v1/datasets", content="\n".join(lines)).json()["id"]
        jobs = [imported(client, made_run(seed, examples=ROWS), questions) for seed in range(1, 5)]
        client.post("/v1/calibrations", json={"name": "fives", "jobs": jobs[:3]})
        job = imported(client, made_run(9, examples=ROWS), questions, calibration="fives")

    page.goto(f"{url}/#/jobs/{job}")
    page.wait_for_selector("canvas.map[data-milliseconds]")

    labels = page.locator(".u-legend .u-label").all_inner_texts()
    assert [label for label in labels if label.startswith("forecast")] == [
        "forecast",
        "forecast, low",
        "forecast, high",
    ]
