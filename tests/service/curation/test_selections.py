"""Policies over HTTP, held to the method's own."""

from __future__ import annotations

import io
import json
from itertools import product

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select as select_rows

from premem.curation.policies import POLICIES, sampling_weights, select
from premem.method.memorization import pre_memorization_accuracies
from premem.payloads.results import RowResult, encode
from premem.records import Answer, Grade, Observation
from premem.wire.tags import EXCLUDED
from premem_service.curation import selections
from premem_service.scores import traits
from premem_service.storage.db import Database
from premem_service.storage.store import Store
from premem_service.storage.tables import dataset_shards
from tests.service.recording import imported, made_run
from tests.service.scored_run import CHECKPOINTS, MEMORIZED_BELOW, ROWS, history, observe
from tests.service.serving import on_sqlite, upload
from tests.service.working import PRODUCED_BY, ended, must_lease, put, work_off

PARAMETERS = [
    {"policy": "lowest"},
    {"policy": "lowest", "below": 1.0, "budget": 7},
    {"policy": "band", "above": 0.5, "below": 1.0, "seed": 3},
    {"policy": "variance", "budget": 20},
    {"policy": "mean", "below": 0.4},
    {"policy": "random", "budget": 9, "seed": 5},
    {"policy": "lowest", "below": 0.0},
]
MANY = 12_000
"""More than a selection lists."""


@pytest.fixture
def scored(client, post_job) -> str:
    """A completed job over sixty questions and three checkpoints."""
    checkpoints = [{"path": f"/runs/{name}"} for name in CHECKPOINTS]
    dataset = upload(client, rows=ROWS, offset=1000)
    job = post_job(dataset=dataset, checkpoints=checkpoints, memorized_below=MEMORIZED_BELOW, shard_rows=7)
    work_off(client, observe)
    assert ended(client, job)["state"] == "completed"
    return job


def arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, accuracies and perplexities of the sixty questions."""
    histories = [history(row) for row in range(ROWS)]
    accuracy_CE = np.array([[one.accuracy for one in seen] for seen in histories]).T
    perplexity_CE = np.array([[one.perplexity for one in seen] for seen in histories]).T
    scores_CE = pre_memorization_accuracies(accuracy_CE, perplexity_CE, memorized_below=MEMORIZED_BELOW)
    return scores_CE[-1], accuracy_CE, perplexity_CE


def rows_of(answer) -> list[dict]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


@on_sqlite
def test_every_policy_chooses_what_the_method_does(client, scored):
    for params in PARAMETERS:
        options = {name: value for name, value in params.items() if name != "policy"}
        expected = select(params["policy"], *arrays(), **options)

        found = client.get(f"/v1/jobs/{scored}/selection", params=params).json()

        assert [one["row"] for one in found["chosen"]] == expected.positions.tolist(), params
        assert [one["row"] for one in found["control"]] == expected.control.tolist(), params
        assert (found["qualified"], found["total"]) == (expected.qualified, len(expected.positions))
        assert found["notes"] == list(expected.notes)
    assert {params["policy"] for params in PARAMETERS} == set(POLICIES)


@on_sqlite
def test_the_curated_rows_are_those_of_the_selection(client, scored):
    for params in PARAMETERS:
        selection = client.get(f"/v1/jobs/{scored}/selection", params=params).json()
        for group in ("chosen", "control"):
            answer = client.get(f"/v1/jobs/{scored}/curated", params={**params, "group": group})

            rows = rows_of(answer)
            about = [row["premem"] for row in rows]
            assert [one["row"] for one in about] == [one["row"] for one in selection[group]], (params, group)
            assert [one["pre_memorization_accuracy"] for one in about] == [one["score"] for one in selection[group]]
            assert [row["question"] for row in rows] == [f"What is {1000 + one['row']} + 1?" for one in about]
            assert [one["accuracy"] for one in about] == [
                [seen.accuracy for seen in history(one["row"])] for one in about
            ]
            assert all((one["policy"], one["group"]) == (params["policy"], group) for one in about)
            assert answer.headers["X-Premem-Rows"] == str(selection["total"])
            assert answer.headers["X-Premem-Qualified"] == str(selection["qualified"])


@on_sqlite
def test_a_subset_in_another_order_is_the_same_as_parquet(client, scored):
    params = {"policy": "random", "budget": 20, "group": "control"}

    lines = rows_of(client.get(f"/v1/jobs/{scored}/curated", params=params))
    frame = pl.read_parquet(
        io.BytesIO(client.get(f"/v1/jobs/{scored}/curated", params={**params, "format": "parquet"}).content)
    )

    assert frame.to_dicts() == lines


def test_the_control_is_drawn_by_the_seed_and_has_the_same_size(client, scored):
    drawn = [
        client.get(f"/v1/jobs/{scored}/selection", params={"budget": 10, "seed": seed}).json() for seed in (1, 1, 2)
    ]

    controls = [[one["row"] for one in selection["control"]] for selection in drawn]
    assert [len(control) for control in controls] == [10] * 3
    assert controls[0] == controls[1] != controls[2]
    assert drawn[0]["chosen"] == drawn[2]["chosen"]


@on_sqlite
def test_a_budget_above_what_there_is_gives_all_and_says_so(client, scored):
    expected = int((arrays()[0] < 0.5).sum())

    selection = client.get(f"/v1/jobs/{scored}/selection", params={"budget": 1000}).json()
    curated = client.get(f"/v1/jobs/{scored}/curated", params={"budget": 1000})

    assert selection["total"] == selection["qualified"] == expected
    assert "fewer than the budget of 1000" in selection["notes"][0]
    assert curated.headers["X-Premem-Notes"] == selection["notes"][0]
    assert curated.headers["X-Premem-Rows"] == str(expected)


@on_sqlite
def test_an_empty_selection_is_an_answer(client, scored):
    selection = client.get(f"/v1/jobs/{scored}/selection", params={"below": 0.0}).json()
    curated = client.get(f"/v1/jobs/{scored}/curated", params={"below": 0.0, "policy": "mean"})

    assert (selection["chosen"], selection["control"], selection["traits"]) == ([], [], [])
    assert selection["notes"] == ["no example qualified for 'lowest'"]
    assert (curated.status_code, curated.text, curated.headers["X-Premem-Rows"]) == (200, "", "0")


@on_sqlite
def test_a_selection_names_all_that_it_follows_from(client, scored):
    params = {"policy": "band", "above": 0.25, "below": 0.75, "budget": 5, "seed": 9}

    found = client.get(f"/v1/jobs/{scored}/selection", params=params).json()["lineage"]

    job = client.get(f"/v1/jobs/{scored}").json()
    assert {name: found[name] for name in params} == params
    assert (found["job"], found["dataset"], found["threshold"]) == (scored, job["dataset"], job["threshold"])


@on_sqlite
@pytest.mark.parametrize("route", ["selection", "curated", "seeds"])
@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"policy": "hardest"}, "policy"),
        ({"below": 1.5}, "below"),
        ({"below": "nan"}, "below"),
        ({"above": -0.1}, "above"),
        ({"above": 0.6, "below": 0.5}, "above"),
        ({"budget": 0}, "budget"),
        ({"seed": -1}, "seed"),
    ],
)
def test_parameters_that_cannot_be_are_refused(client, scored, route, params, named):
    needed = {"model": "m"} if route == "seeds" else {}

    answer = client.get(f"/v1/jobs/{scored}/{route}", params={**needed, **params})

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert named in answer.json()["detail"]


@on_sqlite
def test_a_job_without_scores_has_no_selection(client, post_job):
    job = post_job()

    answers = [client.get(f"/v1/jobs/{job}/{route}") for route in ("selection", "weights", "seeds?model=m")]

    assert [answer.status_code for answer in answers] == [409] * 3
    assert client.get("/v1/jobs/none/selection").status_code == 404


# What the chosen have in common


@pytest.fixture
def long_ones_fail(client, post_job) -> str:
    """A job in which the long questions, every third one, are never answered."""
    lines = [
        json.dumps({"question": "Ann adds. " * (9 if row % 3 == 0 else 2) + str(row), "answer": f"#### {row}"})
        for row in range(30)
    ]
    dataset = client.post("/v1/datasets", content="\n".join(lines)).json()["id"]
    job = post_job(dataset=dataset)
    work_off(client, lambda name, row: Observation(correct=0 if row % 3 == 0 else 2, sampled=2, perplexity=2.0))
    assert ended(client, job)["state"] == "completed"
    return job


@on_sqlite
def test_what_the_chosen_have_in_common_is_told_with_its_effect(client, long_ones_fail):
    found = client.get(f"/v1/jobs/{long_ones_fail}/selection").json()

    assert found["traits"][0] == {"name": "words in the question", "chosen": 19.0, "rest": 5.0, "effect": 1.0}
    assert found["total"] == 10


@on_sqlite
def test_traits_of_many_examples_rest_on_a_draw_and_say_so(client, long_ones_fail, monkeypatch):
    monkeypatch.setattr(traits, "MOST_COMPARED", 4)
    monkeypatch.setattr(selections, "MOST_LISTED", 3)

    found = client.get(f"/v1/jobs/{long_ones_fail}/selection").json()

    assert found["traits"][0]["effect"] == 1.0
    assert found["notes"] == [
        "traits are of 4 of the 10 chosen examples, drawn at random",
        "traits are of 4 of the 20 rest, drawn at random",
    ]
    assert (len(found["chosen"]), len(found["control"]), found["total"]) == (3, 3, 10)


@on_sqlite
def test_the_report_says_what_the_low_examples_have_in_common(client, long_ones_fail):
    report = client.get(f"/v1/jobs/{long_ones_fail}/report").json()
    selection = client.get(f"/v1/jobs/{long_ones_fail}/selection").json()

    assert report["low"] == {"below": 0.5, "examples": 10, "traits": selection["traits"], "notes": []}
    assert report["low"]["traits"][0]["effect"] == 1.0


@on_sqlite
def test_a_selection_lists_no_more_than_is_asked_for(client, scored):
    whole = client.get(f"/v1/jobs/{scored}/selection", params={"below": 1.0}).json()

    found = client.get(f"/v1/jobs/{scored}/selection", params={"below": 1.0, "limit": 3}).json()

    assert (found["chosen"], found["control"]) == (whole["chosen"][:3], whole["control"][:3])
    assert {**found, "chosen": [], "control": []} == {**whole, "chosen": [], "control": []}


# Overlaps


def beside(params: dict) -> dict:
    """The query's names for the second policy."""
    return {f"other_{name}": value for name, value in params.items()}


def numbered(listed: list[dict]) -> list[int]:
    return [one["row"] for one in listed]


@on_sqlite
def test_the_parts_are_those_of_the_two_selections(client, scored):
    for one, other in product(PARAMETERS, PARAMETERS):
        chosen, others = (
            numbered(client.get(f"/v1/jobs/{scored}/selection", params=params).json()["chosen"])
            for params in (one, other)
        )

        found = client.get(f"/v1/jobs/{scored}/overlap", params={**one, **beside(other), "limit": 1000}).json()

        parts = {
            "both": [row for row in chosen if row in others],
            "only_one": [row for row in chosen if row not in others],
            "only_other": [row for row in others if row not in chosen],
        }
        assert {name: numbered(found[name]["first"]) for name in parts} == parts, (one, other)
        assert {name: found[name]["total"] for name in parts} == {name: len(part) for name, part in parts.items()}
        assert (found["lineage"]["policy"], found["other"]["policy"]) == (one["policy"], other["policy"])


@on_sqlite
def test_excluded_examples_are_in_no_part(client, scored):
    query = {"below": 1.0, "other_policy": "random", "limit": 1000}
    dataset = client.get(f"/v1/jobs/{scored}").json()["dataset"]
    path = f"/v1/jobs/{scored}/overlap"
    lowest = client.get(path, params=query).json()["both"]["first"][0]["row"]

    client.put(f"/v1/datasets/{dataset}/tags/{EXCLUDED}/rows", json={"rows": [lowest]})
    found = client.get(path, params=query).json()

    assert all(lowest not in numbered(found[part]["first"]) for part in ("both", "only_one", "only_other"))


def test_all_of_many_are_counted_without_a_text_being_read(app, client):
    dataset = upload(client, rows=MANY)
    job = imported(client, made_run(1, examples=MANY), dataset, memorized_below=1.3)
    database: Database = app.state.database
    store: Store = app.state.store
    with database.connect() as connection:
        store.delete(connection.scalars(select_rows(dataset_shards.c.artifact)).all())

    found = client.get(
        f"/v1/jobs/{job}/overlap", params={"policy": "variance", "other_policy": "random", "other_budget": 11_000}
    ).json()

    assert (found["both"]["total"], found["only_one"]["total"]) == (11_000, 1_000)
    assert found["only_other"] == {"total": 0, "first": []}
    assert len(found["both"]["first"]) == 10


@on_sqlite
def test_thresholds_that_do_not_fit_together_are_refused_of_either(client, scored):
    path = f"/v1/jobs/{scored}/overlap"

    for side in ("", "other_"):
        answer = client.get(path, params={f"{side}policy": "band", f"{side}above": 0.9, f"{side}below": 0.1})
        assert answer.status_code == 422
        assert "above" in answer.json()["detail"]


# Weights


@on_sqlite
def test_weights_are_those_of_the_method_in_the_order_of_the_data_set(client, scored):
    answer = client.get(f"/v1/jobs/{scored}/weights", params={"floor": 0.25})
    parquet = client.get(f"/v1/jobs/{scored}/weights", params={"floor": 0.25, "format": "parquet"})

    rows = rows_of(answer)
    assert [row["row"] for row in rows] == list(range(ROWS))
    assert [row["id"] for row in rows] == [str(row) for row in range(ROWS)]
    assert [row["weight"] for row in rows] == pytest.approx(sampling_weights(arrays()[0], floor=0.25).tolist())
    assert answer.headers["X-Premem-Rows"] == str(ROWS)
    assert pl.read_parquet(io.BytesIO(parquet.content)).to_dicts() == rows


def test_weights_carry_what_they_follow_from(client, scored):
    params = {"floor": 0.25}

    answer = client.get(f"/v1/jobs/{scored}/weights", params=params)
    told = client.get(answer.headers["Link"].split(">")[0].removeprefix("<")).json()
    parquet = client.get(f"/v1/jobs/{scored}/weights", params={**params, "format": "parquet"}).content
    curated = client.get(f"/v1/jobs/{scored}/curated/lineage").json()

    own = {"floor": 0.25, "rows": ROWS, "unscored": 0, "excluded": 0}
    assert json.loads(pq.read_schema(io.BytesIO(parquet)).metadata[b"premem.lineage"]) == told
    assert {name: told[name] for name in own} == own
    assert {name: told[name] for name in told.keys() - own} == {name: curated[name] for name in told.keys() - own}
    assert {"job", "dataset", "checkpoints", "threshold", "sampling", "produced_by", "premem"} < told.keys()
    assert client.get("/v1/jobs/job_none/weights/lineage").status_code == 404


@on_sqlite
def test_a_row_that_was_skipped_has_the_mean_weight(client, post_job):
    job = post_job(shard_rows=12, checkpoints=[{"path": "/runs/1"}])
    task = must_lease(client)
    answers = [Answer(text="?", grade=Grade(verdict), tokens=1, finished=True) for verdict in ("right", "no_answer")]
    rows = [RowResult(row=row, skipped="too long") for row in range(10)]
    rows += [
        RowResult(row=row, perplexity=2.0, target_tokens=5, answers=answers, similarities=[0.0] * 2) for row in (10, 11)
    ]
    put(client, task, encode(rows, produced_by=PRODUCED_BY))
    ended(client, job)

    rows = rows_of(client.get(f"/v1/jobs/{job}/weights"))
    lineage = client.get(f"/v1/jobs/{job}/weights/lineage").json()

    assert [row["weight"] for row in rows] == pytest.approx([1 / 12] * 12)
    assert (lineage["rows"], lineage["unscored"], lineage["excluded"]) == (12, 10, 0)


@on_sqlite
@pytest.mark.parametrize("params", [{"floor": 0}, {"floor": 1.5}, {"format": "csv"}])
def test_weights_that_cannot_be_are_refused(client, scored, params):
    answer = client.get(f"/v1/jobs/{scored}/weights", params=params)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == next(iter(params))


# Seeds


@on_sqlite
def test_seeds_are_dealt_out_among_the_chosen_by_what_they_lack(client, long_ones_fail):
    answer = client.get(f"/v1/jobs/{long_ones_fail}/seeds", params={"requests": 14, "model": "writer", "budget": 10})

    lines = rows_of(answer)
    shown = [json.loads(line["body"]["messages"][1]["content"])["question"] for line in lines]
    assert answer.headers["X-Premem-Rows"] == str(len(lines)) == "14"
    assert len({line["custom_id"] for line in lines}) == 14
    assert all(question.count("Ann adds.") == 9 for question in shown)
    assert len(set(shown)) == 10
    assert {line["body"]["model"] for line in lines} == {"writer"}


@on_sqlite
def test_more_low_examples_than_requests_are_asked_about_once_each(client, long_ones_fail):
    lines = rows_of(client.get(f"/v1/jobs/{long_ones_fail}/seeds", params={"requests": 4, "model": "writer"}))

    assert [line["custom_id"] for line in lines] == ["0-0", "3-0", "6-0", "9-0"]


@on_sqlite
@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"requests": 5}, "model"),
        ({"requests": 0, "model": "m"}, "requests"),
        ({"requests": 50_001, "model": "m"}, "requests"),
        ({"model": "m", "below": 0.0}, "no example is low"),
    ],
)
def test_seeds_that_cannot_be_are_refused_before_the_stream(client, long_ones_fail, params, told):
    answer = client.get(f"/v1/jobs/{long_ones_fail}/seeds", params=params)

    assert answer.status_code == 422
    assert told in answer.json()["detail"]
