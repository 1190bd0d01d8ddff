"""Ranked examples, filtered and sorted by the service, beside the same done by hand over all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from premem_service.app import create_app
from premem_service.settings import Settings
from tests.service.scored_run import CHECKPOINTS, MEMORIZED_BELOW, ROWS, all_examples, observe
from tests.service.serving import upload
from tests.service.working import ended, work_off


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("filters"), round_seconds=0.05)
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture(scope="module")
def scored(client: TestClient) -> str:
    """A completed job, made once: the database has no part in what is found."""
    body = {
        "dataset": upload(client, rows=ROWS, offset=1000),
        "checkpoints": [{"path": f"/runs/{name}"} for name in CHECKPOINTS],
        "sampling": {"samples": 2},
        "memorized_below": MEMORIZED_BELOW,
        "trajectory": "everything",
        "shard_rows": 20,
    }
    job: str = client.post("/v1/jobs", json=body).json()["id"]
    work_off(client, observe)
    assert ended(client, job)["state"] == "completed"
    return job


def found(client, job: str, *, limit: int = 7, **asked) -> list[dict]:
    """All pages."""
    items, cursor = [], None
    while True:
        params = {"limit": limit, **asked, **({"cursor": cursor} if cursor else {})}
        answer = client.get(f"/v1/jobs/{job}/examples", params=params)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            assert page["total"] == len(items)
            return items


FILTERS = [
    ({"below": 0.5}, lambda one: one["pre_memorization_accuracy"] < 0.5),
    ({"above": 0.5, "below": 1.0}, lambda one: 0.5 <= one["pre_memorization_accuracy"] < 1.0),
    ({"interval_below": 0.7}, lambda one: one["interval"]["high"] < 0.7),
    ({"interval_above": 0.2}, lambda one: one["interval"]["low"] >= 0.2),
    ({"perplexity_below": 1.3}, lambda one: one["perplexity"][-1] < 1.3),
    (
        {"perplexity_above": 1.2, "below": 1.0},
        lambda one: one["perplexity"][-1] >= 1.2 and one["pre_memorization_accuracy"] < 1,
    ),
    ({"memorized": True}, lambda one: any(one["memorized"])),
    (
        {"memorized": False, "below": 1.0},
        lambda one: not any(one["memorized"]) and one["pre_memorization_accuracy"] < 1,
    ),
    ({"memorized_at": CHECKPOINTS[1]}, lambda one: one["memorized_at"] == CHECKPOINTS[1]),
    ({"search": "WHAT is 101"}, lambda one: "What is 101" in one["question"]),
    ({"search": "1 + 1?"}, lambda one: "1 + 1?" in one["question"]),
]


@pytest.mark.parametrize(("asked", "wanted"), FILTERS)
def test_what_is_found_is_what_is_wanted_by_rank(client, scored, asked, wanted):
    expected = [one for one in all_examples(client, scored, limit=1000) if wanted(one)]

    assert 0 < len(expected) < 60
    assert found(client, scored, **asked) == expected
    assert found(client, scored, **asked, order="descending") == expected[::-1]


SORTS = {
    "mean_accuracy": lambda one: one["mean_accuracy"],
    "last_accuracy": lambda one: one["last_accuracy"],
    "perplexity": lambda one: one["perplexity"][-1],
    "interval": lambda one: one["interval"]["high"] - one["interval"]["low"],
    "memorized_at": lambda one: one["memorized"].index(True) if any(one["memorized"]) else 3,
    "row": lambda one: one["row"],
}


@pytest.mark.parametrize("sort", SORTS)
def test_ties_of_another_order_come_by_rank_whichever_way_it_goes(client, scored, sort):
    every = all_examples(client, scored, limit=1000)

    assert found(client, scored, sort=sort) == sorted(every, key=SORTS[sort])
    assert found(client, scored, sort=sort, order="descending") == sorted(every, key=lambda one: -SORTS[sort](one))


def test_tags_filter_and_may_change_from_page_to_page(client, scored):
    dataset = client.get(f"/v1/jobs/{scored}").json()["dataset"]
    url = f"/v1/datasets/{dataset}/tags/odd/rows"
    client.put(url, json={"rows": list(range(1, 60, 2))})
    ranked = [one["row"] for one in all_examples(client, scored, limit=1000)]
    odd = [row for row in ranked if row % 2]

    first = client.get(f"/v1/jobs/{scored}/examples", params={"tag": "odd", "limit": 10}).json()
    client.delete(url, params={"row": odd[:5]})
    params = {"tag": "odd", "limit": 10, "cursor": first["next_cursor"]}
    second = client.get(f"/v1/jobs/{scored}/examples", params=params).json()

    assert [one["row"] for one in first["items"] + second["items"]] == odd[:20]
    assert second["total"] == 25
    assert [one["row"] for one in found(client, scored, without_tag="odd", below=0.9)] == [
        one["row"]
        for one in all_examples(client, scored, limit=1000)
        if one["row"] not in odd[5:] and one["pre_memorization_accuracy"] < 0.9
    ]


def test_a_page_may_begin_anywhere(client, scored):
    every = all_examples(client, scored, limit=1000)
    low = [one for one in every if one["pre_memorization_accuracy"] < 0.9]

    for asked, expected in (({}, every), ({"below": 0.9}, low)):
        page = client.get(f"/v1/jobs/{scored}/examples", params={**asked, "start": 13, "limit": 5}).json()
        params = {**asked, "limit": 5, "cursor": page["next_cursor"]}
        assert page["items"] == expected[13:18]
        assert client.get(f"/v1/jobs/{scored}/examples", params=params).json()["items"] == expected[18:23]
    past = client.get(f"/v1/jobs/{scored}/examples", params={"below": 0.9, "start": 1000}).json()
    assert (past["items"], past["next_cursor"], past["total"]) == ([], None, len(low))


@pytest.mark.parametrize(
    "asked",
    [
        {"above": 2},
        {"perplexity_below": 0.5},
        {"perplexity_above": "inf"},
        {"memorized_at": "checkpoint-9"},
        {"sort": "name"},
        {"order": "up"},
        {"search": ""},
        {"tag": "No"},
        {"start": -1},
    ],
)
def test_filters_that_cannot_be_are_refused(client, scored, asked):
    answer = client.get(f"/v1/jobs/{scored}/examples", params=asked)

    assert answer.status_code == 422
    assert next(iter(asked)) in answer.json()["detail"]


def test_a_cursor_belongs_to_its_filter(client, scored):
    cursor = client.get(f"/v1/jobs/{scored}/examples", params={"below": 0.9, "limit": 2}).json()["next_cursor"]

    for asked in ({}, {"below": 0.8}, {"below": 0.9, "start": 3}):
        assert client.get(f"/v1/jobs/{scored}/examples", params={**asked, "cursor": cursor}).status_code == 422
