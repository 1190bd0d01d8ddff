"""What is left undrawn changes no score, with real models: final, everything, and more answers later."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from premem.client.client import Client
from premem.local import LocalService
from premem.wire.jobs import Checkpoint, Job, JobRequest, Sampling
from tests.checkpoints import make_checkpoint

ROWS = 12
STEPS = (10, 20, 30)
VLLM = pytest.param(
    "vllm",
    marks=[
        pytest.mark.vllm,
        pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
    ],
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    rows = [{"question": f"{n} + {n}?", "answer": f"It is {n % 10}"} for n in range(ROWS)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in STEPS:
        make_checkpoint(folder / f"checkpoint-{step}", seed=step)
    return folder


@pytest.fixture(scope="module", params=["transformers", VLLM])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, run: Path) -> Iterator[Client]:
    kept = tmp_path_factory.mktemp("service")
    with LocalService(kept, checkpoint_roots=[run], engine=request.param) as local, Client(local.url) as client:
        yield client


def scored(client: Client, run: Path, *, samples: int, **changes: object) -> Job:
    """An answer is right where its first digit is the reference's, as it is by chance; half of the pairs are memorized."""
    dataset = client.upload(run / "train.jsonl", grader="regex", grader_options={"pattern": r"(\d)"})
    request = JobRequest(
        dataset=dataset.id,
        checkpoints=[Checkpoint(path=str(run / f"checkpoint-{step}")) for step in STEPS],
        sampling=Sampling(samples=samples, max_tokens=16),
        shard_rows=8,
        **changes,
    )
    return completed(client, client.create_job(request))


def completed(client: Client, job: Job) -> Job:
    ended = client.wait(job.id, timeout=240)
    assert ended.state == "completed", ended.errors
    return ended


def scores(client: Client, job: Job) -> dict[int, float]:
    return {example.row: example.pre_memorization_accuracy for example in client.iter_examples(job.id)}


def test_fewer_answers_and_answers_drawn_later_give_the_scores_of_all_at_once(client, run):
    matrix = client.matrix(scored(client, run, samples=1, trajectory="everything").id)
    below = float(sorted(matrix.perplexity_CE.ravel())[matrix.perplexity_CE.size // 2])
    everything = scored(client, run, samples=6, trajectory="everything", memorized_below=below)
    final = scored(client, run, samples=6, memorized_below=below)
    few = scored(client, run, samples=2, memorized_below=below)
    few_of_everything = scored(client, run, samples=2, trajectory="everything", memorized_below=below)

    more = completed(client, client.resample(few.id, 6))
    more_of_everything = completed(client, client.resample(few_of_everything.id, 6))

    whole = scores(client, everything)
    assert len(set(whole.values())) > 1
    assert whole == scores(client, final) == scores(client, more) == scores(client, more_of_everything)
    assert 0 < final.counts.samples < everything.counts.samples
    assert more.counts.samples + few.counts.samples >= final.counts.samples
    assert more.counts.samples < final.counts.samples
    assert more_of_everything.counts.samples == 3 * ROWS * 4
    pairs = [
        (part, resumed, all_)
        for row in range(ROWS)
        for part, resumed, all_ in zip(
            *(client.example(job.id, row).checkpoints for job in (more, more_of_everything, everything)), strict=True
        )
    ]
    same = [
        one == other for part, resumed, all_ in pairs for one, other in zip(part.answers, all_.answers, strict=False)
    ]
    same += [
        one == other for _, resumed, all_ in pairs for one, other in zip(resumed.answers, all_.answers, strict=True)
    ]
    # Batches are others, and with them the last bits of what a matrix product is; vLLM on a CPU does not let that show.
    assert sum(same) == len(same) or (client.report(more.id).produced_by["engine"] != "vllm" and np.mean(same) > 0.97)
    for part, _, all_ in pairs:
        assert part.perplexity == pytest.approx(all_.perplexity, rel=1e-5)
