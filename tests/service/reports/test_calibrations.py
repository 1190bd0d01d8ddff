"""Calibrations over HTTP: made, refused by name, and what is forecast or refused with them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from premem.forecasting.calibration import calibrate
from premem.forecasting.forecast import Setting, forecast
from premem.forecasting.recorded_runs import read_runs
from premem.forecasting.rules import scores
from premem.forecasting.runs import ScoredRun
from premem.records import Observation
from premem_service.app import create_app
from premem_service.settings import Settings
from tests.service.recording import LINE, imported, made_run
from tests.service.serving import upload
from tests.service.working import always_right, ended, lease, put, result, work_off

ROWS = 60
SHARED = Path(__file__).parents[3] / "../shared/data"


@pytest.fixture
def questions(client) -> str:
    return upload(client, rows=ROWS)


@pytest.fixture
def runs(client, questions) -> list[tuple[ScoredRun, str]]:
    """Four recorded runs with the jobs that they became."""
    made = [made_run(seed, examples=ROWS) for seed in range(1, 5)]
    return [(run, imported(client, run, questions)) for run in made]


def make(client: TestClient, name: str, jobs: list[str], **changes: Any) -> Any:
    return client.post("/v1/calibrations", json={"name": name, "jobs": jobs, **changes})


def made(client: TestClient, name: str, jobs: list[str], **changes: Any) -> dict[str, Any]:
    answer = make(client, name, jobs, **changes)
    assert answer.status_code == 201, answer.text
    calibration: dict[str, Any] = answer.json()
    return calibration


@pytest.mark.parametrize("rule", ["paper", "shrunk"])
def test_a_calibration_is_the_one_of_the_method(client, runs, rule):
    told = made(client, "sums", [job for _, job in runs], rule=rule)

    expected = calibrate([run for run, _ in runs], rule=rule)
    assert told["memorized_below"] == pytest.approx(expected.memorized_below)
    assert told["left_out"]["r2_identity"] == pytest.approx(expected.left_out.r2_identity)
    assert told["interval"] == pytest.approx(expected.interval)
    assert told["half_width"] == pytest.approx(expected.half_width)
    assert told["r2"] == pytest.approx(expected.r2_T.tolist())
    assert [point["forecast"] for point in told["points"]] == pytest.approx(expected.forecast_P.tolist())
    assert {point["run"] for point in told["points"]} == {run.name for run, _ in runs}
    assert told["setting"] | {"template": ""} == {
        "model": "FakeForCausalLM 1k",
        "task": "sums",
        "grader": "authors 1",
        "template": "",
        "span": "as recorded",
    }


def test_calibrations_are_listed_found_by_name_and_id_and_deleted(client, runs):
    jobs = [job for _, job in runs]
    first, second = made(client, "first", jobs), made(client, "second", jobs, memorized_below=LINE)

    newest = client.get("/v1/calibrations", params={"limit": 1}).json()
    rest = client.get("/v1/calibrations", params={"cursor": newest["next_cursor"]}).json()
    assert [newest["items"], rest["items"], rest["next_cursor"]] == [[second], [first], None]
    assert client.get("/v1/calibrations/first").json() == client.get(f"/v1/calibrations/{first['id']}").json() == first
    assert second["memorized_below"] == LINE
    assert client.delete("/v1/calibrations/first").status_code == 204
    assert client.get("/v1/calibrations/first").status_code == 404
    assert client.delete("/v1/calibrations/first").status_code == 404


def test_a_forecast_of_a_job_is_that_of_the_method(client, runs, questions):
    made(client, "sums", [job for _, job in runs[:3]])
    run = runs[3][0]

    job = imported(client, run, questions, calibration="sums")

    calibration = calibrate([run for run, _ in runs[:3]])
    report = client.get(f"/v1/jobs/{job}/report").json()
    expected_C = scores(run, memorized_below=calibration.memorized_below).mean(axis=1)
    threshold = client.get(f"/v1/jobs/{job}").json()["threshold"]
    assert (threshold["basis"], threshold["forecast"]) == ("calibration", "given")
    assert threshold == report["threshold"]
    assert report["forecast_refused"] is None
    for line, mean in zip(report["checkpoints"], expected_C, strict=True):
        assert line["pre_memorization_accuracy"] == pytest.approx(mean)
        assert line["forecast"]["accuracy"] == pytest.approx(mean)
        assert line["forecast"]["high"] == pytest.approx(min(1.0, mean + calibration.half_width))
    assert client.get(f"/v1/jobs/{job}/report", params={"calibration": "sums"}).json() == report


def test_a_calibration_is_applied_to_a_finished_job_without_touching_it(client, runs):
    made(client, "sums", [job for _, job in runs[:3]])
    job = runs[3][1]
    before = client.get(f"/v1/jobs/{job}/report").json()

    applied = client.get(f"/v1/jobs/{job}/report", params={"calibration": "sums"}).json()

    assert before["forecast_refused"] is not None
    assert [line["forecast"] for line in before["checkpoints"]] == [None] * 3
    assert applied["threshold"]["forecast"] == "given"
    assert all(line["forecast"] for line in applied["checkpoints"])
    assert client.get(f"/v1/jobs/{job}/report").json() == before


def test_a_rule_alone_changes_the_column_and_forecasts_nothing(client, runs):
    run, job = runs[0]
    threshold = client.get(f"/v1/jobs/{job}").json()["threshold"]["memorized_below"]

    report = client.get(f"/v1/jobs/{job}/report", params={"rule": "latest"}).json()

    expected_C = scores(run, memorized_below=threshold, rule="latest").mean(axis=1)
    assert [line["pre_memorization_accuracy"] for line in report["checkpoints"]] == pytest.approx(expected_C.tolist())
    assert (report["rule"], report["threshold"]["forecast"]) == ("latest", "refused")


def test_a_rule_that_the_calibration_was_not_made_for_is_refused(client, runs):
    made(client, "sums", [job for _, job in runs])

    asked = {"calibration": "sums", "rule": "latest"}
    report = client.get(f"/v1/jobs/{runs[0][1]}/report", params=asked).json()

    assert "made for the rule paper" in report["forecast_refused"]


def test_a_job_that_the_calibration_was_made_from_is_told_so(client, runs):
    made(client, "sums", [job for _, job in runs])

    report = client.get(f"/v1/jobs/{runs[0][1]}/report", params={"calibration": "sums"}).json()

    assert any("its forecast is no test" in warning for warning in report["warnings"])


@pytest.mark.parametrize(
    ("differs", "changes"),
    [
        ("model", {"model": "FakeForCausalLM 2k"}),
        ("task", {"task": "products"}),
        ("grader", {"grader": {"name": "exact"}}),
        ("template", {"template": {"prompt": "Q: {question}\nA:"}}),
        ("template", {"template": {"chat": True}}),
        ("span", {"span": "the whole text"}),
    ],
)
def test_a_job_of_another_setting_is_refused_by_what_differs(client, runs, questions, differs, changes):
    made(client, "sums", [job for _, job in runs[:3]])

    other = imported(client, runs[3][0], questions, calibration="sums", **changes)
    mixed = make(client, "mixed", [runs[0][1], other])

    report = client.get(f"/v1/jobs/{other}/report").json()
    assert f"another {differs} (" in report["forecast_refused"]
    assert report["threshold"]["forecast"] == "refused"
    assert [line["forecast"] for line in report["checkpoints"]] == [None] * 3
    assert mixed.status_code == 422
    assert f"differ in their {differs} (" in mixed.json()["detail"]
    assert other in mixed.json()["detail"]


def test_a_calibration_that_explains_nothing_forecasts_nothing(client, questions):
    runs = [made_run(seed, examples=ROWS) for seed in range(1, 5)]
    for run in runs:
        run.test_accuracy_C[:] = run.test_accuracy_C[::-1].copy()
    jobs = [imported(client, run, questions) for run in runs]
    made(client, "backwards", jobs)

    report = client.get(f"/v1/jobs/{jobs[0]}/report", params={"calibration": "backwards"}).json()

    assert "does not hold on runs it has not seen" in report["forecast_refused"]


def test_test_accuracies_that_do_not_differ_leave_no_nan_in_the_answer(client, questions):
    runs = [made_run(seed, examples=ROWS) for seed in range(1, 4)]
    for run in runs:
        run.test_accuracy_C[:] = 0.5

    told = made(client, "flat", [imported(client, run, questions) for run in runs])

    assert told["fit"]["r2_identity"] is None
    assert set(told["r2"]) == {None}
    listed = client.get("/v1/calibrations").text
    json.loads(listed, parse_constant=lambda name: pytest.fail(name))


def test_one_job_is_refused(client, runs):
    answer = make(client, "one", [runs[0][1]])

    assert answer.status_code == 422
    assert "at least two runs" in answer.json()["detail"]


def test_a_job_that_is_named_twice_is_refused(client, runs):
    answer = make(client, "twice", [runs[0][1]] * 2)

    assert answer.status_code == 422
    assert "named twice" in answer.json()["detail"]


def test_a_job_without_test_accuracy_is_refused_by_name(client, runs, questions):
    untested = made_run(7, examples=ROWS)
    untested.test_accuracy_C[:] = np.nan

    answer = make(client, "untested", [runs[0][1], imported(client, untested, questions)])

    assert answer.status_code == 422
    assert "no checkpoint of run-7 has a test accuracy" in answer.json()["detail"]


def test_a_job_that_has_not_ended_is_refused(client, runs, post_job):
    job = post_job()

    answer = make(client, "early", [runs[0][1], job])

    assert answer.status_code == 409
    assert f"job {job} is queued" in answer.json()["detail"]


def test_a_job_that_there_is_not_is_named(client, runs):
    answer = make(client, "gone", [runs[0][1], "job_gone"])

    assert answer.status_code == 422
    assert "no job job_gone" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["", "with space", "a/b", "cal_0", "x" * 101])
def test_a_name_that_no_address_can_hold_is_refused(client, runs, name):
    assert make(client, name, [job for _, job in runs]).status_code == 422


def test_a_name_that_is_taken_is_refused(client, runs):
    jobs = [job for _, job in runs]
    made(client, "sums", jobs)

    answer = make(client, "sums", jobs)

    assert answer.status_code == 409
    assert "named 'sums' already" in answer.json()["detail"]


def test_a_threshold_and_a_calibration_at_once_are_refused(client, dataset):
    body = {"dataset": dataset, "checkpoints": [{"path": "/r"}], "memorized_below": 1.2, "calibration": "sums"}

    answer = client.post("/v1/jobs", json=body)

    assert answer.status_code == 422
    assert "not both" in answer.json()["detail"]


def test_a_calibration_that_there_is_not_is_refused_with_the_job(client, post_job, dataset):
    answer = client.post(
        "/v1/jobs", json={"dataset": dataset, "checkpoints": [{"path": "/r"}], "calibration": "nobody"}
    )

    assert answer.status_code == 422
    assert "no calibration 'nobody'" in answer.json()["detail"]


def perplexed(calibrated: dict[str, Any]) -> Callable[[str, int], Observation]:
    line = calibrated["memorized_below"]
    return lambda name, row: Observation(correct=row % 3 > 0, sampled=2, perplexity=line * (0.9 if row % 2 else 1.2))


def test_jobs_that_were_sampled_here_are_calibrated_on_and_forecast(client, post_job, dataset):
    test = upload(client, rows=10, offset=500)
    jobs = []
    for rate in (1e-5, 2e-5, 4e-5):
        jobs.append(post_job(test_dataset=test, task="sums", learning_rate=rate))
        work_off(client, lambda name, row, rate=rate: Observation(int(row % 3 > 0), 2, 1 + rate * 1e5 + row / 50))
        ended(client, jobs[-1])

    calibration = made(client, "own", jobs)
    job = post_job(memorized_below=None, calibration="own", task="sums")
    posted = client.get(f"/v1/jobs/{job}").json()["threshold"]
    waiting = client.delete("/v1/calibrations/own")
    work_off(client, perplexed(calibration))
    threshold = ended(client, job)["threshold"]

    assert calibration["setting"]["grader"] == "gsm8k 2"
    assert calibration["setting"]["model"] == "FakeForCausalLM 1k"
    assert not any("learning rate" in warning for warning in calibration["warnings"])
    assert posted["memorized_below"] == threshold["memorized_below"] == calibration["memorized_below"]
    assert (posted["basis"], posted["forecast"]) == ("calibration", "refused")
    assert "not completed" in posted["forecast_reason"]
    assert waiting.status_code == 409
    assert job in waiting.json()["detail"]
    page = client.get(f"/v1/jobs/{job}/examples").json()
    assert page["threshold"] == threshold
    assert {item["row"] for item in page["items"] if item["memorized"][0]} == {row for row in range(12) if row % 2}
    report = client.get(f"/v1/jobs/{job}/report").json()
    assert (report["forecast_refused"] is None) == (threshold["forecast"] == "given")
    assert client.delete("/v1/calibrations/own").status_code == 204
    assert client.get(f"/v1/jobs/{job}/report").json() == report


def test_results_that_do_not_name_their_model_are_not_calibrated_on(client, runs, post_job, dataset):
    job = post_job(task="sums")
    while (task := lease(client)) is not None:
        assert put(client, task, result(task, always_right, model="")).status_code == 200
    ended(client, job)

    answer = make(client, "nameless", [job, runs[0][1]])

    assert answer.status_code == 422
    assert f"the results of job {job} do not say which model made them" in answer.json()["detail"]


# The authors' runs


@pytest.fixture(scope="session")
def authors_runs(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[TestClient, list[tuple[ScoredRun, str]]]]:
    """A client, and the nine recorded runs with the jobs that they became."""
    recorded, questions = SHARED / "recorded-runs", SHARED / "gsm8k" / "train.jsonl"
    if not (recorded.is_dir() and questions.is_file()):
        pytest.skip("the authors' recorded runs are not on this machine")
    app = create_app(Settings(data_dir=tmp_path_factory.mktemp("authors"), round_seconds=0.05))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        answer = client.post("/v1/datasets", content=questions.read_bytes(), params={"name": "gsm8k"})
        dataset = answer.json()["id"]
        known = {"model": "LlamaForCausalLM 8.03B", "task": "gsm8k", "memorized_below": "gsm8k-llama3"}
        runs = read_runs(recorded)
        yield client, [(run, imported(client, run, dataset, **known)) for run in runs]


def test_the_authors_runs_are_jobs_with_the_papers_figures(authors_runs):
    client, runs = authors_runs

    for run, job in runs:
        report = client.get(f"/v1/jobs/{job}/report").json()
        expected_C = scores(run, memorized_below=1.1055).mean(axis=1)
        assert [line["pre_memorization_accuracy"] for line in report["checkpoints"]] == pytest.approx(
            expected_C.tolist(), abs=5e-4
        )
        assert [line["test_accuracy"] for line in report["checkpoints"]] == pytest.approx(run.test_accuracy_C.tolist())
        assert report["checkpoints"][0]["examples"] == run.accuracy_CE.shape[1]


def test_the_ninth_run_of_the_authors_is_forecast_from_the_eight_others(authors_runs):
    client, runs = authors_runs
    left_out, job = runs[4]
    others = [one for one in runs if one[1] != job]

    told = made(client, "eight", [job for _, job in others])
    report = client.get(f"/v1/jobs/{job}/report", params={"calibration": "eight"}).json()

    expected = calibrate([run for run, _ in others])
    setting = Setting(**told["setting"])
    points = forecast(left_out, expected, setting=setting, calibrated_for=setting)
    assert told["memorized_below"] == pytest.approx(expected.memorized_below, abs=5e-4)
    assert told["left_out"]["r2_identity"] == pytest.approx(expected.left_out.r2_identity, abs=5e-4)
    assert report["forecast_refused"] is None
    for line, point in zip(report["checkpoints"], points, strict=True):
        assert line["forecast"] == pytest.approx(
            {"accuracy": point.accuracy, "low": point.low, "high": point.high}, abs=5e-4
        )
        assert abs(line["forecast"]["accuracy"] - line["test_accuracy"]) < 0.1
    assert math.isclose(report["threshold"]["memorized_below"], told["memorized_below"])
