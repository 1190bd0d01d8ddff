"""Runs as others would have recorded them, with a truth that calibration can find."""

from __future__ import annotations

from typing import Any

import numpy as np
from starlette.testclient import TestClient

from premem.forecasting.rules import scores
from premem.forecasting.runs import ScoredRun
from premem.payloads.recordings import described, encode
from tests.service.working import ended

LINE = 1.3
"""Under this perplexity everything is right by heart."""
SAMPLES = 20
MODEL = "FakeForCausalLM 1k"


def made_run(seed: int, *, examples: int, checkpoints: int = 3, row_E: list[int] | None = None) -> ScoredRun:
    """Memorized examples are always right, the others as often as the test questions."""
    random = np.random.default_rng(seed)
    perplexity_CE = 1 + random.gamma(2.0, 0.6, (checkpoints, examples)) / (1 + np.arange(checkpoints))[:, None]
    skill_C = np.linspace(0.1, 0.9, checkpoints) * random.uniform(0.5, 1.0)
    right_CE = random.binomial(SAMPLES, np.repeat(skill_C[:, None], examples, axis=1))
    accuracy_CE = np.where(perplexity_CE < LINE, 1.0, right_CE / SAMPLES)
    known: dict[str, Any] = {
        "name": f"run-{seed}",
        "checkpoints": tuple(f"checkpoint-{c}" for c in range(checkpoints)),
        "accuracy_CE": accuracy_CE,
        "perplexity_CE": perplexity_CE,
        "samples": SAMPLES,
        "learning_rate": seed * 1e-5,
        "row_E": None if row_E is None else np.array(row_E),
        "test_examples": 100,
    }
    untested = ScoredRun(**known, test_accuracy_C=np.full(checkpoints, np.nan))
    return ScoredRun(**known, test_accuracy_C=scores(untested, memorized_below=LINE).mean(axis=1))


def post_recorded(client: TestClient, run: ScoredRun, dataset: str, **known: Any) -> Any:
    about = described(run, dataset=dataset, **{"model": MODEL, "task": "sums", **known})
    return client.post("/v1/recorded", content=encode(run, about))


def imported(client: TestClient, run: ScoredRun, dataset: str, **known: Any) -> str:
    """Id of the job that it became, completed."""
    answer = post_recorded(client, run, dataset, **known)
    assert answer.status_code == 202, answer.text
    job: str = answer.json()["id"]
    assert ended(client, job)["state"] == "completed"
    return job
