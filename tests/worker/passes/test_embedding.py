from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from premem.errors import CheckpointError, EngineError, Interrupted
from premem.payloads.embeddings import Embedding, check
from premem.records import Example
from premem.wire.jobs import Sampling, Template
from premem_worker.engines.requests import EmbedRequest
from premem_worker.engines.transformers.engine import TransformersEngine
from premem_worker.passes.embedding import embedded_rows, plan_embedding
from tests.checkpoints import make_checkpoint
from tests.fakes import FakeEmbedder, FakeService, examples, make_task
from tests.worker.engines.memory import hold_at_most
from tests.worker.worker_processes import run_worker

PROMPTS = [(5, 6, 7), (9,), (3, 1, 4, 1, 5, 9, 2, 6), (2, 7, 1, 8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("runs") / "checkpoint-1", seed=1)


@pytest.fixture(scope="module")
def engine(folder: Path) -> TransformersEngine:
    made = TransformersEngine(device="cpu")
    made.load(folder, dtype="float32")
    return made


def embedded(engine: TransformersEngine, prompts: list[tuple[int, ...]]) -> dict[int, tuple[float, ...]]:
    requests = [EmbedRequest(row=row, tokens=tokens) for row, tokens in enumerate(prompts)]
    return {one.row: one.vector for one in engine.embed(requests, stopped=lambda: False)}


def test_an_embedding_is_the_mean_last_hidden_state_of_a_plain_forward_pass(engine, folder):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        out = model(input_ids=torch.tensor([PROMPTS[2]]), output_hidden_states=True)
    plain = out.hidden_states[-1][0].mean(dim=0).tolist()

    assert embedded(engine, PROMPTS)[2] == pytest.approx(plain, abs=1e-5)


def test_an_embedding_does_not_depend_on_the_prompts_beside_it(engine):
    together = embedded(engine, PROMPTS)

    for row, tokens in enumerate(PROMPTS):
        assert together[row] == pytest.approx(embedded(engine, [tokens])[0], abs=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 10, 100_000])
def test_an_embedding_does_not_depend_on_how_many_go_through_at_once(engine, folder, batch_tokens):
    other = TransformersEngine(device="cpu", batch_tokens=batch_tokens)
    other.load(folder, dtype="float32")

    found = embedded(other, PROMPTS)

    for row, vector in embedded(engine, PROMPTS).items():
        assert found[row] == pytest.approx(vector, abs=1e-5)


def test_the_embeddings_of_a_batch_that_memory_does_not_hold_are_those_of_its_halves(engine, monkeypatch):
    prompts = [(5, 6, 7 + row) for row in range(8)]
    before = embedded(engine, prompts)

    with monkeypatch.context() as patch:
        hold_at_most(engine, 4, patch)
        halved = embedded(engine, prompts)

    for row, vector in before.items():
        assert halved[row] == pytest.approx(vector, abs=1e-5)


def test_bfloat16_weights_give_finite_embeddings(tmp_path):
    made = TransformersEngine(device="cpu")
    made.load(make_checkpoint(tmp_path / "checkpoint", dtype="bfloat16"), dtype=None)

    (vector,) = embedded(made, PROMPTS[:1]).values()

    assert all(map(math.isfinite, vector))
    assert made.produced_by["dtype"] == "bfloat16"


def test_embedding_can_be_stopped(engine):
    with pytest.raises(Interrupted):
        list(engine.embed([EmbedRequest(0, (1, 2))], stopped=lambda: True))


def test_a_prompt_beyond_the_context_is_the_callers_mistake(engine):
    with pytest.raises(ValueError, match="row 0 does not fit"):
        list(engine.embed([EmbedRequest(0, tuple([1] * (engine.context + 1)))], stopped=lambda: False))


def test_nan_weights_are_the_checkpoints_fault(engine, monkeypatch):
    with torch.no_grad():
        weight = engine._loaded.model.get_input_embeddings().weight
        kept = weight[5].clone()
        weight[5] = torch.nan
        try:
            with pytest.raises(CheckpointError, match="no numbers"):
                embedded(engine, PROMPTS)
        finally:
            weight[5] = kept


def run(task, rows, engine) -> dict[int, Embedding]:
    made = plan_embedding(task, rows, engine)
    return {one.row: one for one in embedded_rows(made, engine.embed(made.requests, stopped=lambda: False))}


def test_a_pass_embeds_every_prompt():
    found = run(make_task(kind="embed"), examples(3), FakeEmbedder())

    assert {row: one.vector for row, one in found.items()} == {0: (0.0, 1.0), 1: (1.0, 2.0), 2: (2.0, 3.0)}
    assert {one.tokens for one in found.values()} == {len("0 + 1?\nAnswer:") + 1}


def test_what_does_not_fit_is_skipped_with_its_reason():
    rows = [examples(1)[0], Example("a", "x" * 100, "t"), Example("b", "\ud800", "t"), Example("c", "", "t")]
    engine = FakeEmbedder(context=50)
    encode = engine.tokenizer.encode
    engine.tokenizer.encode = lambda text, **how: encode(text, **{**how, "add_special_tokens": False})  # type: ignore[method-assign]

    task = make_task(kind="embed", template=Template(prompt="{question}"))
    found = run(task, rows, engine)

    assert [found[row].skipped for row in range(4)] == [
        None,
        "too long for the model's context of 50 tokens",
        "the text is not valid Unicode (a lone surrogate)",
        "the prompt has no tokens",
    ]


def test_an_engine_that_leaves_a_prompt_out_is_found_out():
    class Forgetful(FakeEmbedder):
        def embed(self, requests, *, stopped):
            yield from list(super().embed(requests, stopped=stopped))[1:]

    with pytest.raises(EngineError, match="1 prompts"):
        run(make_task(kind="embed"), examples(3), Forgetful())


@pytest.mark.vllm
def test_a_worker_with_vllm_closes_it_to_embed_and_scores_the_same_afterwards(tmp_path: Path):
    pytest.importorskip("vllm")
    checkpoint = str(make_checkpoint(tmp_path / "runs" / "checkpoint-1"))
    asked = {"checkpoint": checkpoint, "sampling": Sampling(samples=2, max_tokens=8)}
    with FakeService(rows=examples(12)) as service:
        service.tasks += [
            make_task(name, kind=kind, **asked) for name, kind in (("a", "train"), ("b", "embed"), ("c", "train"))
        ]

        ended = run_worker(
            service, "--engine", "vllm", "--checkpoint-root", str(tmp_path / "runs"), "--exit-when-idle", "0"
        )

    assert ended.returncode == 0, ended.stderr
    assert not service.failures
    embedded, made_by = check(service.results["b"][-1], start=0, stop=3)
    assert (made_by["engine"], embedded["skipped"].null_count()) == ("transformers", 3)
    before, after = service.frame("a"), service.frame("c")
    assert before["perplexity"].to_list() == pytest.approx(after["perplexity"].to_list(), rel=1e-4)
    assert before["texts"].to_list() == after["texts"].to_list()
