"""Ranked examples and choosing, in a real browser, beside what the API says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from premem.client.client import Client
from premem.records import Observation
from tests.page.browsing import ROWS, needs_chromium
from tests.service.working import ended, work_off

pytestmark = needs_chromium
MANY = 3_000


def listed(url: str, job: str, page: Page, query: str = "") -> None:
    page.goto(f"{url}/#/jobs/{job}/examples{query}")
    page.wait_for_selector(".body .row b")


def ids(page: Page) -> list[str]:
    """Of the rows in the document, from top to bottom."""
    rows = page.locator(".body .row").evaluate_all(
        "rows => rows.map(row => [Number(row.getAttribute('aria-rowindex')), row.querySelector('b')?.textContent])"
    )
    return [name for _, name in sorted(rows)]


def found(page: Page, total: int) -> None:
    page.wait_for_selector(f"#found[data-total='{total}']")


def test_the_table_shows_what_the_api_ranks(url, job, page):
    listed(url, job, page)
    with Client(url) as client:
        ranked = [one.id for one in client.iter_examples(job)]

    shown = ids(page)

    assert shown == ranked[: len(shown)]
    assert 10 < len(shown) < ROWS
    assert page.inner_text("#found") == f"{ROWS} examples"
    assert page.locator("img, main script").count() == 0


def test_filters_and_sorting_are_those_of_the_api(url, job, page):
    listed(url, job, page)
    with Client(url) as client:
        low = [one.id for one in client.iter_examples(job, below=0.4, memorized=True, sort="last_accuracy")]
        one = [one.id for one in client.iter_examples(job, search="7 + 1?")]
        known = [one.id for one in client.iter_examples(job, perplexity_above=1.2, perplexity_below=1.4)]

    page.fill("[name=below]", "0.4")
    page.select_option("[name=memory]", "true")
    found(page, len(low))
    page.get_by_role("button", name="Last").click()
    page.wait_for_selector("[aria-sort=ascending] >> text=Last")
    page.wait_for_selector(".body .row b")
    sorted_ids = ids(page)
    page.get_by_role("button", name="Clear").click()
    found(page, ROWS)
    page.fill("[name=search]", "7 + 1?")
    found(page, len(one))
    searched_ids, searched_at = ids(page), page.url
    page.get_by_role("button", name="Clear").click()
    found(page, ROWS)
    page.fill("[name=perplexity_above]", "1.2")
    page.fill("[name=perplexity_below]", "1.4")
    found(page, len(known))

    assert sorted_ids == low[: len(sorted_ids)]
    assert 0 < len(one) < ROWS
    assert sorted(searched_ids) == sorted(one)
    assert "search=7" in searched_at
    assert 0 < len(known) < ROWS
    assert ids(page) == known


def test_keys_move_open_mark_and_exclude(url, job, page):
    listed(url, job, page)
    with Client(url) as client:
        dataset = client.job(job).dataset
        ranked = list(client.iter_examples(job))

        page.keyboard.press("j")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("x")
        page.wait_for_selector(".row.out")
        page.keyboard.press("k")
        page.keyboard.press("m")
        page.wait_for_selector(".row.active .marked[aria-pressed=true]")
        assert list(client.tagged_rows(dataset, "excluded")) == [ranked[2].row]
        assert list(client.tagged_rows(dataset, "marked")) == [ranked[1].row]
        assert client.selection(job, below=1.0).excluded == 1

        page.keyboard.press("Enter")
        page.wait_for_selector("ins")
        page.get_by_role("button", name="Marked").click()
        page.get_by_role("button", name="Mark", exact=True).wait_for()
        page.fill("#new-tag", "odd")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Take the tag odd off").wait_for()
        assert page.inner_text("h1") == f"Example {ranked[1].id}"
        assert client.example(job, ranked[1].row).tags == ["odd"]
        client.delete_tag(dataset, "excluded")
        client.delete_tag(dataset, "odd")


def test_keys_go_on_from_example_to_example_and_back_to_the_place(url, job, page):
    listed(url, job, page, "?below=0.9")
    with Client(url) as client:
        ranked = [one.id for one in client.iter_examples(job, below=0.9)]

    for _ in range(20):
        page.keyboard.press("j")
    page.keyboard.press("Enter")
    read = []
    for key in ("j", "j", "k"):
        page.wait_for_selector("ins")
        read.append(page.inner_text("h1"))
        page.keyboard.press(key)
        expect(page.locator("h1")).not_to_have_text(read[-1])
    page.get_by_role("link", name="Back to the list").click()
    page.wait_for_selector(".row.active b")

    assert read == [f"Example {ranked[place]}" for place in (20, 21, 22)]
    assert page.inner_text(".row.active b") == ranked[21]
    assert page.url.endswith("examples?below=0.9")


def test_a_long_table_holds_the_rows_in_sight_only(url, page):
    with httpx.Client(base_url=url) as client:
        lines = [{"question": f"{n} + 1?", "answer": f"#### {n + 1}"} for n in range(MANY)]
        dataset = client.post("/v1/datasets", content="\n".join(map(json.dumps, lines))).json()["id"]
        body = {"dataset": dataset, "checkpoints": [{"path": "/r/step-1"}], "memorized_below": 1.3, "shard_rows": MANY}
        long = client.post("/v1/jobs", json=body).json()["id"]
        work_off(client, lambda name, row: Observation(correct=row % 6, sampled=5, perplexity=2.0))
        ended(client, long)
        last = client.get(f"/v1/jobs/{long}/examples", params={"start": MANY - 1}).json()["items"][0]["id"]
        middle = client.get(f"/v1/jobs/{long}/examples", params={"start": 1500, "limit": 1}).json()["items"][0]["id"]
    listed(url, long, page)

    page.evaluate("document.querySelector('.grid').scrollTop = 1500 * 46")
    page.wait_for_selector("[aria-rowindex='1502'] b")
    in_the_middle = page.inner_text("[aria-rowindex='1502'] b")
    page.keyboard.press("End")
    page.wait_for_selector(f"[aria-rowindex='{MANY + 1}'].active b")

    assert in_the_middle == middle
    assert page.inner_text(f"[aria-rowindex='{MANY + 1}'] b") == last
    assert page.locator(".body .row").count() < 40
    assert page.get_attribute(".grid", "aria-rowcount") == str(MANY + 1)


def test_a_million_rows_can_be_reached(url, job, page):
    """Answered by the test, so that nobody has to score a million examples for it."""
    like = httpx.get(f"{url}/v1/jobs/{job}/examples", params={"limit": 1}).json()

    def answer(route: Route) -> None:
        asked = parse_qs(urlsplit(route.request.url).query)
        first = int((asked.get("cursor") or asked.get("start") or ["0"])[0])
        items = [{**like["items"][0], "rank": n, "row": n, "id": str(n)} for n in range(first, min(first + 50, 10**6))]
        route.fulfill(json={**like, "items": items, "total": 10**6, "next_cursor": str(first + 50)})

    page.route("**/examples?*", answer)
    listed(url, job, page)
    page.keyboard.press("End")
    page.wait_for_selector("[aria-rowindex='1000001'].active b")
    at_the_end = ids(page)[-1]
    page.keyboard.press("k")
    page.wait_for_selector("[aria-rowindex='1000000'].active b")
    page.evaluate("const grid = document.querySelector('.grid'); grid.scrollTop = grid.scrollHeight / 2")
    expect(page.locator(".body .row b").first).to_have_text(re.compile("^[0-5][0-9]{5}$"))
    in_the_middle = [int(name) for name in ids(page) if name]

    assert at_the_end == "999999"
    assert 450_000 < in_the_middle[0] < 550_000
    assert in_the_middle == list(range(in_the_middle[0], in_the_middle[0] + len(in_the_middle)))
    assert page.locator(".body .row").count() < 40


def test_two_policies_are_compared_as_the_api_chooses(url, job, page):
    page.goto(f"{url}/#/jobs/{job}/curate")
    page.wait_for_selector("#chosen")
    with Client(url) as client:
        one = client.selection(job, policy="lowest", below=0.7, budget=15)
        other = client.selection(job, policy="band", above=0.2, below=0.8)

    page.fill("#one [name=below]", "0.7")
    page.fill("#one [name=budget]", "15")
    page.check("#compare")
    page.wait_for_selector("[data-query*='budget=15'] #both")

    rows = [{each.row for each in found.chosen} for found in (one, other)]
    assert (page.inner_text("#chosen"), page.inner_text("#qualified")) == (str(one.total), str(one.qualified))
    assert int(page.inner_text("#both")) == len(rows[0] & rows[1])
    assert int(page.inner_text("#only-one")) == len(rows[0] - rows[1])
    assert int(page.inner_text("#only-other")) == len(rows[1] - rows[0])


def test_the_download_and_every_line_give_the_same_rows(url, job, page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page.goto(f"{url}/#/jobs/{job}/curate")
    page.fill("#one [name=budget]", "9")
    page.wait_for_selector("[data-query*='budget=9'] #chosen")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download JSONL").click()
    expected = Path(download.value.path()).read_bytes()
    lines = {name: page.inner_text(f"[data-line='{name}']") for name in ("curl", "Command line", "Python")}
    commands = [
        shlex.split(lines["curl"]),
        [sys.executable, "-m", "premem", *shlex.split(lines["Command line"])[1:]],
        [sys.executable, "-c", lines["Python"]],
    ]

    assert len(expected.splitlines()) == 9
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
        assert Path("curated.jsonl").read_bytes() == expected
        Path("curated.jsonl").unlink()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["", "/examples", "/examples/3", "/curate"])
def test_axe_finds_nothing_serious(url, job, page, view, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{url}/#/jobs/{job}{view}")
    page.wait_for_selector(
        {"": "canvas[data-milliseconds]", "/examples": ".body .row b", "/curate": "#chosen"}.get(view, "ins")
    )

    seen = Axe().run(page).response
    serious = [
        (one["id"], [node["html"] for node in one["nodes"]][:3])
        for one in seen["violations"]
        if one["impact"] in ("serious", "critical")
    ]

    assert len(seen["passes"]) > 10
    assert serious == []
