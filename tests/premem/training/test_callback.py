"""The callback as a Trainer calls it, before a service that answers as it is told."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest

from premem.callback import PreMemorization
from tests.premem.steered import Reply, Steered, job_of
from tests.premem.training.test_following import answers, until


@pytest.fixture
def service():
    with Steered() as steered:
        answers(steered, "queued")
        steered.on("GET /v1/workers", Reply({"items": [], "next_cursor": None}))
        yield steered


def arguments(folder, **changes):
    settings = {"output_dir": str(folder), "run_name": None, "learning_rate": 1e-4, "save_strategy": "steps"}
    return SimpleNamespace(**{**settings, "save_total_limit": None, **changes})


def state(step=0, *, first=True):
    return SimpleNamespace(is_world_process_zero=first, global_step=step, save_steps=2)


def appended(service):
    return [json.loads(asked.body)["name"] for asked in service.asked if asked.path.endswith("/checkpoints")]


def test_only_the_first_of_many_processes_says_anything(service, tmp_path, caplog):
    callback = PreMemorization("ds_1", service=service.url)

    callback.on_train_begin(arguments(tmp_path, save_strategy="no"), state(first=False), None)
    callback.on_save(arguments(tmp_path), state(2, first=False), None)
    callback.on_train_end(arguments(tmp_path), state(2, first=False), None)

    assert caplog.messages == []
    assert service.asked == []


def test_a_run_that_goes_on_as_a_new_job_takes_the_checkpoints_that_lie_there_and_names_those_gone(
    service, tmp_path, caplog
):
    caplog.set_level(logging.WARNING, "premem")
    for step in (10, 8, 6, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
    callback = PreMemorization("ds_1", service=service.url, look_seconds=0.02)

    callback.on_train_begin(arguments(tmp_path), state(10), None, processing_class=None, model=None)
    until(lambda: len(appended(service)) == 3)
    callback.on_train_end(arguments(tmp_path), state(10), None)

    assert appended(service) == ["checkpoint-6", "checkpoint-8", "checkpoint-10"]
    assert any("lacks checkpoint-2, checkpoint-4: " in line for line in caplog.messages)


def test_what_will_fail_is_said_at_once_and_once(service, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "premem")
    callback = PreMemorization("ds_1", service=service.url, look_seconds=0.02)

    callback.on_train_begin(arguments(tmp_path), state(), None, processing_class=None, model=None)
    for step in (2, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
        callback.on_save(arguments(tmp_path), state(step), None)
    until(lambda: len(appended(service)) == 2)
    callback.on_train_end(arguments(tmp_path), state(4), None)

    for word in ("saves no tokenizer", "no worker has asked", "no *.safetensors", "so it is not known whether"):
        assert sum(word in line for line in caplog.messages) == 1, word
    assert all(line.startswith("premem: ") for line in caplog.messages)


def test_a_job_that_is_there_keeps_its_template(service, tmp_path):
    service.on("GET /v1/jobs/job_1", Reply(job_of("queued").model_copy(update={"open": True})))
    callback = PreMemorization(job="job_1", service=service.url, look_seconds=0.02)

    callback.on_train_begin(arguments(tmp_path), state(), None, processing_class=None, model=None)
    until(lambda: callback.following.job == "job_1")
    callback.on_train_end(arguments(tmp_path), state(), None)

    assert not any(asked.method == "POST" and asked.path == "/v1/jobs" for asked in service.asked)
