"""A job that asks through a chat template is the same job for both engines."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from premem.client.client import Client
from premem.local import LocalService
from premem.wire.examples import ExampleDetail
from premem.wire.jobs import Checkpoint, JobRequest, Sampling, Template
from tests.checkpoints import CHAT, make_checkpoint
from tests.worker.adapters import make_adapter

ROWS = 12
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
ENDS = range(60, 80)
"""Tokens that end an answer, by generation_config.json: the likeliest answers of these models never come to </s>."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a chat template, and an adapter that has one and whose base has none."""
    folder = tmp_path_factory.mktemp("run")
    rows = [{"question": f"{n} + {n}?", "answer": f"It is {n % 10}"} for n in range(ROWS)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    make_checkpoint(folder / "checkpoint-10", seed=10, spread=0.1, chat_template=CHAT)
    base = make_checkpoint(folder / "base", seed=20, spread=0.1)
    for own in (folder / "checkpoint-10", base):
        (own / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, *ENDS]}))
    adapter = make_adapter(folder / "checkpoint-20", base, seed=20)
    for name in TOKENIZER_FILES:
        shutil.copyfile(base / name, adapter / name)
    (adapter / "chat_template.jinja").write_text(CHAT)
    return folder


def asked(engine: str, kept: Path, run: Path) -> list[ExampleDetail]:
    """Two tasks per checkpoint: the second one is begun before the first one has ended."""
    with LocalService(kept, checkpoint_roots=[run], engine=engine) as local, Client(local.url) as client:
        dataset = client.upload(run / "train.jsonl", grader="regex", grader_options={"pattern": r"(\d)"})
        request = JobRequest(
            dataset=dataset.id,
            checkpoints=[Checkpoint(path=str(run / f"checkpoint-{step}")) for step in (10, 20)],
            sampling=Sampling(samples=2, max_tokens=40, temperature=0.0, stop=[]),
            template=Template(chat=True, system="Be brief."),
            trajectory="everything",
            memorized_below=1.1,
            shard_rows=8,
        )
        ended = client.wait(client.create_job(request).id, timeout=240)
        assert ended.state == "completed", ended.errors
        assert client.report(ended.id).produced_by["engine"] == engine
        return [client.example(ended.id, row) for row in range(ROWS)]


@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_a_chat_is_scored_and_answered_alike_by_both_engines(tmp_path: Path, run: Path):
    plain, quick = (asked(engine, tmp_path / engine, run) for engine in ("transformers", "vllm"))

    pairs = [
        pair
        for one, other in zip(plain, quick, strict=True)
        for pair in zip(one.checkpoints, other.checkpoints, strict=True)
    ]
    assert len(pairs) == 2 * ROWS
    for one, other in pairs:
        assert other.perplexity == pytest.approx(one.perplexity, rel=1e-4)
        assert [(a.text, a.finished) for a in other.answers] == [(a.text, a.finished) for a in one.answers]
    assert {answer.finished for one, _ in pairs for answer in one.answers} == {True, False}
    assert not any("</s>" in answer.text for one, _ in pairs for answer in one.answers)
    assert len({round(one.perplexity, 6) for one, _ in pairs}) == 2 * ROWS
