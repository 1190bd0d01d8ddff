"""Tags over HTTP, and what they keep out of every choice."""

from __future__ import annotations

import io
import json

import polars as pl
import pytest

from premem.records import Observation
from tests.service.serving import on_sqlite, upload
from tests.service.working import ended, work_off

ROWS = 12


@pytest.fixture
def scored(client, post_job) -> str:
    """A completed job over twelve rows, of which the first six were never solved."""
    job = post_job()
    work_off(client, lambda name, row: Observation(correct=0 if row < 6 else 2, sampled=2, perplexity=2.0))
    assert ended(client, job)["state"] == "completed"
    return job


def tag(client, dataset: str, name: str, *rows: int):
    return client.put(f"/v1/datasets/{dataset}/tags/{name}/rows", json={"rows": list(rows)})


def test_rows_are_tagged_once_however_often_they_are_sent(client, dataset):
    answers = [
        tag(client, dataset, "excluded", 3, 5, 3),
        tag(client, dataset, "excluded", 5, 3),
        tag(client, dataset, "odd", 3),
    ]

    assert [answer.json() for answer in answers] == [{"tag": "excluded", "rows": 2}] * 2 + [{"tag": "odd", "rows": 1}]
    assert client.get(f"/v1/datasets/{dataset}/tags").json() == {
        "items": [{"tag": "excluded", "rows": 2}, {"tag": "odd", "rows": 1}]
    }


def test_a_tag_comes_off_some_rows_or_all(client, dataset):
    tag(client, dataset, "odd", 1, 3, 5, 7)
    url = f"/v1/datasets/{dataset}/tags/odd"

    left = [client.delete(f"{url}/rows", params={"row": [3, 5, 6]}).json() for _ in range(2)]
    rows = client.get(f"{url}/rows").json()
    gone = [client.delete(url).status_code for _ in range(2)]

    assert left == [{"tag": "odd", "rows": 2}] * 2
    assert rows == {"items": [1, 7], "next_cursor": None}
    assert gone == [204, 204]
    assert client.get(f"/v1/datasets/{dataset}/tags").json() == {"items": []}


def test_tagged_rows_come_in_pages(client, dataset):
    tag(client, dataset, "odd", *range(1, ROWS, 2))
    found, cursor = [], None

    while cursor is not None or not found:
        params = {"limit": 4, **({"cursor": cursor} if cursor else {})}
        page = client.get(f"/v1/datasets/{dataset}/tags/odd/rows", params=params).json()
        found, cursor = found + page["items"], page["next_cursor"]

    assert found == [1, 3, 5, 7, 9, 11]


@on_sqlite
@pytest.mark.parametrize("name", ["Excluded", "two words", "-x", "a" * 51, "<b>"])
def test_a_name_that_is_no_tag_is_refused(client, dataset, name):
    assert tag(client, dataset, name, 1).status_code == 422


@on_sqlite
@pytest.mark.parametrize("rows", [[], [12], [-1], ["x"], list(range(10_001))])
def test_rows_that_are_not_there_are_refused_and_none_is_tagged(client, dataset, rows):
    answer = client.put(f"/v1/datasets/{dataset}/tags/odd/rows", json={"rows": [*rows[:1], *rows[1:]]})

    assert answer.status_code == 422
    assert "rows" in answer.json()["detail"]
    assert client.get(f"/v1/datasets/{dataset}/tags").json() == {"items": []}


@on_sqlite
def test_a_data_set_has_few_tags(client, dataset):
    taken = [tag(client, dataset, f"t{number}", 0).status_code for number in range(100)]

    assert set(taken) == {200}
    assert tag(client, dataset, "one-more", 0).status_code == 409
    assert tag(client, dataset, "t7", 1).status_code == 200


def test_a_data_set_that_is_deleted_takes_its_tags_along(client, dataset):
    tag(client, dataset, "odd", 1)

    assert client.delete(f"/v1/datasets/{dataset}").status_code == 204
    assert client.get(f"/v1/datasets/{dataset}/tags").status_code == 404
    assert upload(client, rows=ROWS) == dataset
    assert client.get(f"/v1/datasets/{dataset}/tags").json() == {"items": []}


def test_what_is_excluded_is_in_no_choice_and_is_counted(client, dataset, scored):
    tag(client, dataset, "excluded", 0, 4, 9)
    every = {"below": 1.0, "policy": "random"}

    selection = client.get(f"/v1/jobs/{scored}/selection", params={"below": 0.5}).json()
    drawn = client.get(f"/v1/jobs/{scored}/selection", params=every).json()
    curated = client.get(f"/v1/jobs/{scored}/curated")
    control = client.get(f"/v1/jobs/{scored}/curated", params={**every, "group": "control"})

    note = "3 scored examples are left out: they are tagged 'excluded'"
    assert [one["row"] for one in selection["chosen"]] == [1, 2, 3, 5]
    assert (
        {one["row"] for one in drawn["chosen"]}
        == {one["row"] for one in drawn["control"]}
        == set(range(12)) - {0, 4, 9}
    )
    assert (selection["excluded"], selection["notes"]) == (3, [note])
    assert [json.loads(line)["premem"]["row"] for line in curated.text.splitlines()] == [1, 2, 3, 5]
    assert {json.loads(line)["premem"]["row"] for line in control.text.splitlines()} == set(range(12)) - {0, 4, 9}
    assert (curated.headers["X-Premem-Excluded"], curated.headers["X-Premem-Notes"]) == ("3", note)


def test_another_job_over_the_same_rows_leaves_them_out_too(client, dataset, scored, post_job):
    tag(client, dataset, "excluded", 2)
    other = post_job()
    work_off(client, lambda name, row: Observation(correct=0, sampled=2, perplexity=2.0))
    ended(client, other)

    found = client.get(f"/v1/jobs/{other}/selection").json()

    assert [one["row"] for one in found["chosen"]] == [row for row in range(ROWS) if row != 2]


@on_sqlite
def test_tags_come_with_examples_and_with_curated_rows(client, dataset, scored):
    tag(client, dataset, "marked", 1, 2)
    tag(client, dataset, "a-hard-one", 2)

    page = client.get(f"/v1/jobs/{scored}/examples", params={"limit": 4}).json()["items"]
    one = client.get(f"/v1/jobs/{scored}/examples/2").json()
    lines = [json.loads(line)["premem"] for line in client.get(f"/v1/jobs/{scored}/curated").text.splitlines()]
    parquet = pl.read_parquet(
        io.BytesIO(client.get(f"/v1/jobs/{scored}/curated", params={"format": "parquet"}).content)
    )

    expected = [[], ["marked"], ["a-hard-one", "marked"], [], [], []]
    assert [item["tags"] for item in page] == expected[:4]
    assert one["tags"] == expected[2]
    assert [about["tags"] for about in lines] == expected
    assert [about["tags"] for about in parquet["premem"].to_list()] == expected


@on_sqlite
def test_an_excluded_row_weighs_nothing_and_the_others_all(client, dataset, scored):
    tag(client, dataset, "excluded", 0)

    answer = client.get(f"/v1/jobs/{scored}/weights", params={"floor": 0.5})
    weights = [json.loads(line)["weight"] for line in answer.text.splitlines()]

    assert weights == pytest.approx([0.0] + [1 / 8] * 5 + [0.5 / 8] * 6)
    assert answer.headers["X-Premem-Excluded"] == "1"


@on_sqlite
def test_an_excluded_row_of_a_pool_is_no_candidate(client, scored):
    pool = upload(client, rows=4, offset=500)
    tag(client, pool, "excluded", 1)

    found = client.post(f"/v1/jobs/{scored}/acquire", json={"pool": pool, "budget": 4}).json()

    assert sorted(one["row"] for one in found["candidates"]) == [0, 2, 3]
    assert found["left_out"] == 1
