"""Uploading a data set and starting a job on the page, compared with what the API says."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
from playwright.sync_api import Page, expect

from tests.checkpoints import make_tokenizer
from tests.page.browsing import HOSTILE, needs_chromium

pytestmark = needs_chromium


def chosen(page: Page, url: str, folder: Path) -> str:
    """The id of the data set that was uploaded through the form."""
    rows = [{"prompt": f"{HOSTILE} {n} + 2?", "completion": f"It is {n + 2}.\n#### {n + 2}"} for n in range(20)]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    page.goto(f"{url}/#/new")
    page.set_input_files("#file", str(folder / "mine.jsonl"))
    page.wait_for_selector("#preview mark")
    return page.input_value("#dataset")


def test_an_upload_is_shown_as_prompt_and_marked_target(url, page, tmp_path):
    dataset = chosen(page, url, tmp_path)

    told = httpx.get(f"{url}/v1/datasets/{dataset}/preview").json()

    assert page.locator("#preview mark").all_inner_texts() == [row["target"] for row in told["rows"]]
    assert HOSTILE in page.inner_text("#preview pre >> nth=0")
    assert "question from “prompt”, trace from “completion”" in page.inner_text("#preview")
    assert page.locator("#preview script").count() == 0


def test_scored_tokens_are_shaded_and_counted_where_the_checkpoint_can_be_read(url, page, runs, tmp_path):
    dataset = chosen(page, url, tmp_path)
    make_tokenizer().save_pretrained(runs / "step-1")
    told = httpx.get(f"{url}/v1/datasets/{dataset}/preview", params={"checkpoint": "step-1"}).json()

    page.fill("#checkpoints", "step-1\nstep-2")
    page.locator("#checkpoints").blur()

    for place, row in enumerate(told["rows"]):
        start = row["tokens"]["target_start"]
        scored = page.locator("#preview mark").nth(place).locator("span")
        expect(scored).to_have_text(row["tokens"]["texts"][start:])
        expect(page.locator("#preview pre + p").nth(place)).to_contain_text(
            f"{len(row['tokens']['texts']) - start} tokens are scored, after {start} that are not"
        )
    shades = page.locator("#preview mark span").evaluate_all(
        "each => each.slice(0, 3).map((one) => getComputedStyle(one).backgroundColor)"
    )
    assert shades[0] == shades[2] != shades[1]
    expect(page.locator("#untokenized")).to_have_count(0)


def test_where_the_checkpoint_cannot_be_read_characters_are_marked_and_that_is_said(url, page, tmp_path):
    dataset = chosen(page, url, tmp_path)
    told = httpx.get(f"{url}/v1/datasets/{dataset}/preview").json()

    page.fill("#checkpoints", "/elsewhere/step-1")
    page.locator("#checkpoints").blur()

    expect(page.locator("#untokenized")).to_contain_text("under none of PREMEM_CHECKPOINT_ROOTS")
    assert page.locator("#preview mark").all_inner_texts() == [row["target"] for row in told["rows"]]


def test_a_chat_is_shown_as_what_both_say_and_asked_for(url, page, tmp_path):
    dataset = chosen(page, url, tmp_path)
    with page.expect_response("**/preview?rows=3&chat=true"):
        page.check("#chat")
    expect(page.locator("#preview")).to_contain_text("chat template")
    page.fill("#checkpoints", "/r/step-1")

    page.click("#start")

    page.wait_for_url("**/#/jobs/job_*")
    told = httpx.get(f"{url}/v1/datasets/{dataset}/preview", params={"chat": True}).json()
    job = httpx.get(f"{url}/v1/jobs/{page.url.rpartition('/')[2]}").json()
    assert told["rows"][0]["prompt"] == f"{HOSTILE} 0 + 2?"
    assert job["template"] == {"prompt": "{question}", "target": "{trace}", "chat": True, "system": ""}
    httpx.post(f"{url}/v1/jobs/{job['id']}/cancel")


def test_a_job_is_estimated_and_started(url, page, tmp_path):
    dataset = chosen(page, url, tmp_path)
    page.fill("#checkpoints", "/r/step-1\n\n  /r/step-2 ")
    page.fill("#samples", "4")
    page.fill("#memorized-below", "1.25")
    page.select_option("#trajectory", "everything")
    page.click("#estimate")
    page.wait_for_selector("#cost p")
    cost = page.inner_text("#cost")

    page.click("#start")

    page.wait_for_url("**/#/jobs/job_*")
    job = httpx.get(f"{url}/v1/jobs/{page.url.rpartition('/')[2]}").json()
    assert "20 examples at 2 checkpoints" in cost
    assert "160 answers" in cost
    assert (job["dataset"], job["trajectory"], job["sampling"]["samples"]) == (dataset, "everything", 4)
    assert job["threshold"]["memorized_below"] == 1.25
    assert [one["path"] for one in job["checkpoints"]] == ["/r/step-1", "/r/step-2"]
    httpx.post(f"{url}/v1/jobs/{job['id']}/cancel")


def test_what_is_missing_or_wrong_is_said(url, page, tmp_path):
    page.goto(f"{url}/#/new")
    page.wait_for_selector("#start")

    page.click("#start")

    assert page.inner_text("[role=alert]") == "Choose a data set, or upload one."
