"""The loss of a checkpoint's references beside what its training logged."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from premem.client.logged_loss import far_from_logged, logged_loss


def checkpoint(folder, *losses):
    history = [{"loss": loss, "step": step} for step, loss in enumerate(losses, 1)] + [{"eval_loss": 9.0, "step": 3}]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    return SimpleNamespace(name="checkpoint-3", path=str(folder), state="completed")


def service(*losses):
    """One whose job's first checkpoint has references of these losses."""
    matrix = SimpleNamespace(perplexity_CE=np.exp(np.array([losses, [0.0] * len(losses)], dtype="float32")))
    return SimpleNamespace(matrix=lambda job: matrix)


def test_references_far_less_likely_than_what_was_trained_on_are_told(tmp_path):
    job = SimpleNamespace(id="job_1", checkpoints=[checkpoint(tmp_path, 2.0, 0.4)])

    warning = far_from_logged(service(1.5, 2.5, math.nan), job)

    assert warning.startswith("checkpoint-3: the mean loss of the references is 2.00, and its training had logged 0.40")
    assert "--template-prompt" in warning


@pytest.mark.parametrize("scored", [0.01, 0.4, 0.8])
def test_a_loss_like_the_logged_one_or_under_it_is_no_fault(tmp_path, scored):
    job = SimpleNamespace(id="job_1", checkpoints=[checkpoint(tmp_path, 2.0, 0.4)])

    assert far_from_logged(service(scored, scored), job) is None


def test_a_checkpoint_that_cannot_be_read_here_is_not_asked_about(tmp_path):
    away = SimpleNamespace(name="checkpoint-3", path="/runs/elsewhere/checkpoint-3", state="completed")

    assert far_from_logged(SimpleNamespace(), SimpleNamespace(id="job_1", checkpoints=[away])) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"log_history": [{"loss": "high"}]}', '{"log_history": [{"loss": NaN}]}']
)
def test_a_log_without_a_loss_says_nothing(tmp_path, text):
    (tmp_path / "trainer_state.json").write_text(text)

    assert logged_loss(tmp_path) is None
