"""Jobs that draw only what their scores need: the same scores as if everything were drawn, and little drawn."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from premem.records import Observation
from premem_service.queue import draws
from tests.service.serving import on_sqlite, upload
from tests.service.working import ended, fail, lease, must_lease, put, result, work_off

NAMES = ["checkpoint-1", "checkpoint-2", "checkpoint-3", "checkpoint-4"]
CHECKPOINTS = [{"path": f"/runs/{name}"} for name in NAMES]
ROWS = 40


def observe(checkpoint: str, row: int) -> Observation:
    """Learned by and by, and by heart in the end; some rows never, some at once."""
    place = NAMES.index(checkpoint)
    chance = random.Random(f"{checkpoint} {row}")
    by_heart = row % 5 <= place
    return Observation(correct=chance.randint(0, 4), sampled=4, perplexity=1.05 if by_heart else 2.0 + place / 8 + row)


@pytest.fixture
def post(client, post_job):
    dataset = upload(client, rows=ROWS, offset=1000)

    def post(**changes) -> str:
        asked = {"checkpoints": CHECKPOINTS, "sampling": {"samples": 4}, "shard_rows": 16, "trajectory": None}
        return post_job(**{"dataset": dataset, **asked, **changes})

    return post


def done(client, job: str) -> dict:
    state = ended(client, job)
    assert state["state"] == "completed", state["errors"]
    return state


def scores(client, job: str) -> dict[int, float]:
    items = client.get(f"/v1/jobs/{job}/examples", params={"limit": 1000}).json()["items"]
    return {item["row"]: item["pre_memorization_accuracy"] for item in items}


def test_final_gives_the_scores_of_everything_for_a_part_of_the_answers(client, post):
    final, everything = post(), post(trajectory="everything")
    work_off(client, observe)

    state, whole = done(client, final), done(client, everything)

    assert (state["trajectory"], whole["trajectory"]) == ("final", "everything")
    assert scores(client, final) == scores(client, everything)
    assert len(scores(client, final)) == ROWS
    assert 0 < state["counts"]["samples"] < 0.45 * whole["counts"]["samples"]
    assert state["counts"]["samples"] + state["counts"]["samples_saved"] == whole["counts"]["samples"]
    assert state["counts"]["tokens_saved"] == 3 * state["counts"]["samples_saved"]
    assert whole["counts"]["samples_saved"] == 0
    assert state["counts"]["examples"] == state["counts"]["examples_total"] == 4 * ROWS
    assert [one["state"] for one in state["checkpoints"]] == ["completed"] * 4


@on_sqlite
def test_all_perplexities_come_before_any_answer_and_each_checkpoint_is_gone_through_once(client, post):
    post()
    order, loaded = [], None
    while (task := lease(client, loaded=loaded)) is not None:
        loaded = task["checkpoint"]["path"]
        order.append((task["kind"], loaded[-1]))
        assert put(client, task, result(task, observe)).status_code == 200

    kinds = [kind for kind, _ in order]
    swaps = [place for (_, place), (_, before) in zip(order, [("", ""), *order], strict=False) if place != before]
    assert Counter(kinds)["perplexity"] == 4 * 3
    assert kinds.index("draw") >= 9
    assert swaps == ["1", "2", "3", "4", "3", "2", "1", "4"]


@on_sqlite
def test_full_gives_every_checkpoint_the_scores_of_everything(client, post):
    full, everything = post(trajectory="full"), post(trajectory="everything")
    work_off(client, observe)

    saved = done(client, full)["counts"]["samples_saved"]
    done(client, everything)
    lines, whole = (client.get(f"/v1/jobs/{job}/report").json()["checkpoints"] for job in (full, everything))

    assert scores(client, full) == scores(client, everything)
    for name in ("pre_memorization_accuracy", "memorized"):
        assert [line[name] for line in lines] == pytest.approx([line[name] for line in whole])
    assert saved > 0


@on_sqlite
def test_below_draws_less_and_finds_the_same_examples(client, post):
    below, everything = post(below=0.5), post(trajectory="everything")
    work_off(client, observe)

    fewer, whole = done(client, below), done(client, everything)
    found = client.get(f"/v1/jobs/{below}/curated", params={"below": 0.5})
    wanted = client.get(f"/v1/jobs/{everything}/curated", params={"below": 0.5})
    other = client.get(f"/v1/jobs/{below}/curated", params={"below": 0.25})
    final = post()
    work_off(client, observe)

    rows = [
        sorted(line.split('"row":')[1].split(",")[0] for line in body.text.splitlines()) for body in (found, wanted)
    ]
    assert rows[0] == rows[1]
    assert rows[0]
    assert fewer["counts"]["samples"] < done(client, final)["counts"]["samples"] < whole["counts"]["samples"]
    assert "only whether a score is under 0.5 was settled" in " ".join(fewer["warnings"])
    assert other.status_code == 409
    assert "below=0.5" in other.json()["detail"]


@on_sqlite
def test_what_was_not_drawn_is_null_and_not_nought(client, post):
    job = post()
    work_off(client, observe)
    done(client, job)

    items = client.get(f"/v1/jobs/{job}/examples", params={"limit": 1000}).json()["items"]
    report = client.get(f"/v1/jobs/{job}/report").json()
    curated = client.get(f"/v1/jobs/{job}/curated", params={"below": 1.0}).text
    parquet = client.get(f"/v1/jobs/{job}/curated", params={"below": 1.0, "format": "parquet"})
    always = next(item for item in items if item["row"] == 0)
    detail = client.get(f"/v1/jobs/{job}/examples/1").json()

    assert always["accuracy"] == [None] * 4
    assert always["mean_accuracy"] is None
    assert always["last_accuracy"] is None
    assert always["interval"] == {"low": 0.0, "high": 0.0}
    assert [line["train_accuracy"] for line in report["checkpoints"]] == [None] * 4
    assert [line["pre_memorization_accuracy"] is None for line in report["checkpoints"]] == [True, True, True, False]
    assert not any(key.startswith("mean accuracy") for key in report["tie_order"])
    assert "NaN" not in curated
    assert parquet.status_code == 200
    assert [one["perplexity"] for one in detail["checkpoints"]] == [observe(name, 1).perplexity for name in NAMES]
    assert len(detail["checkpoints"][0]["answers"]) > 0
    assert detail["checkpoints"][1]["answers"] == []


@on_sqlite
@pytest.mark.parametrize("path", ["report?rule=mean", "curated?policy=mean&below=0.5", "selection?policy=mean"])
def test_what_needs_every_answer_is_refused(client, post, path):
    job = post()
    work_off(client, observe)
    done(client, job)

    answer = client.get(f"/v1/jobs/{job}/{path}")

    assert answer.status_code in (409, 422)
    assert "everything" in answer.json()["detail"]


@on_sqlite
def test_a_threshold_from_the_first_checkpoint_is_that_of_everything(client, post):
    final, everything = post(memorized_below=None), post(memorized_below=None, trajectory="everything")
    work_off(client, observe)

    state, whole = done(client, final), done(client, everything)

    assert state["threshold"]["memorized_below"] == whole["threshold"]["memorized_below"]
    assert state["threshold"]["source"] == whole["threshold"]["source"]
    assert scores(client, final) == scores(client, everything)


def test_draws_begin_when_an_open_job_is_closed(client, post):
    job = post(open=True, trajectory="final", checkpoints=CHECKPOINTS[:3])
    work_off(client, observe)
    client.post(f"/v1/jobs/{job}/checkpoints", json=CHECKPOINTS[3])
    kinds = Counter()
    while (task := lease(client)) is not None:
        kinds[task["kind"]] += 1
        put(client, task, result(task, observe))
    so_far = client.get(f"/v1/jobs/{job}/so-far").json()["checkpoints"]
    client.post(f"/v1/jobs/{job}/close")
    everything = post(trajectory="everything")
    while client.get(f"/v1/jobs/{job}").json()["state"] != "completed":
        work_off(client, observe)

    done(client, everything)

    assert set(kinds) == {"perplexity"}
    assert [line["checkpoint"] for line in so_far] == NAMES
    assert [line["pre_memorization_accuracy"] for line in so_far] == [None] * 4
    assert scores(client, job) == scores(client, everything)


def test_a_checkpoint_that_fails_while_answers_are_drawn_is_planned_around(client, post):
    job = post()
    while (task := must_lease(client))["kind"] != "draw":
        put(client, task, result(task, observe))
    fail(client, task, "the folder is gone", permanent=True, checkpoint=True)
    others = post(trajectory="everything", checkpoints=CHECKPOINTS[:3])
    while client.get(f"/v1/jobs/{job}").json()["state"] != "completed":
        work_off(client, observe)

    done(client, others)

    assert client.get(f"/v1/jobs/{job}").json()["checkpoints"][3]["state"] == "failed"
    assert scores(client, job) == scores(client, others)


@on_sqlite
def test_a_plan_that_was_cut_off_is_made_in_the_next_round(client, post, monkeypatch):
    job, everything = post(), post(trajectory="everything")
    planning = draws.plan_shard
    with monkeypatch.context() as cut:
        cut.setattr("premem_service.queue.results.draws.plan_shard", lambda *_: "running")
        cut.setattr(draws, "plan_due", lambda *_, **__: None)
        work_off(client, observe)
        assert client.get(f"/v1/jobs/{job}").json()["state"] == "running"
    assert draws.plan_shard is planning
    while client.get(f"/v1/jobs/{job}").json()["state"] != "completed":
        work_off(client, observe)

    assert scores(client, job) == scores(client, everything)


@on_sqlite
def test_a_job_none_of_whose_checkpoints_can_be_scored_fails(client, post):
    job = post()
    while (task := lease(client)) is not None:
        fail(client, task, "no such folder", permanent=True, checkpoint=True)

    assert ended(client, job)["state"] == "failed"


@on_sqlite
def test_an_answer_too_few_is_refused(client, post):
    post()
    while (task := must_lease(client))["kind"] != "draw":
        put(client, task, result(task, observe))

    answer = put(client, task, result(task, lambda name, row: Observation(correct=0, sampled=1, perplexity=2.0)))

    assert answer.status_code == 422
    assert "more at least" in answer.json()["detail"]


@on_sqlite
def test_cancelled_while_planned_it_ends(client, post):
    job = post()
    task = must_lease(client)
    client.post(f"/v1/jobs/{job}/cancel")

    assert put(client, task, result(task, observe)).status_code == 409
    client.post(f"/v1/tasks/{task['id']}/release", json={"attempt": task["attempt"]})
    assert ended(client, job)["state"] == "cancelled"


@on_sqlite
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"below": 0.5, "trajectory": "full"}, "below"),
        ({"below": 0.0}, "below"),
        ({"trajectory": "final", "calibration": "sums", "memorized_below": None}, "every checkpoint"),
    ],
)
def test_what_does_not_go_together_is_refused(client, dataset, changes, told):
    body = {"dataset": dataset, "checkpoints": CHECKPOINTS, **changes}

    answer = client.post("/v1/jobs", json=body)

    assert answer.status_code == 422
    assert told in answer.text
