from __future__ import annotations

from pathlib import Path

import pytest
import torch

from premem.embeddings import check
from premem.errors import CheckpointError, EngineError, Interrupted
from premem.records import Example
from tests.checkpoints import make_checkpoint
from tests.fakes import FakeEmbedder, examples, make_task
from worker.embedding import run_embedding
from worker.engines import EmbedRequest
from worker.engines.transformers import TransformersEngine

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


def run(task, rows, engine) -> bytes:
    return run_embedding(task, rows, engine, tokenizer_fingerprint="t1", model="M 1k", stopped=lambda: False)


def test_a_pass_embeds_every_prompt_and_says_who_did():
    frame, made_by = check(run(make_task(kind="embed"), examples(3), FakeEmbedder()), start=0, stop=3)

    assert frame["embedding"].to_list() == [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
    assert frame["tokens"].to_list() == [len("0 + 1?\nAnswer:") + 1] * 3
    assert (made_by["engine"], made_by["tokenizer"], made_by["model"]) == ("fake", "t1", "M 1k")


def test_what_does_not_fit_is_skipped_with_its_reason():
    rows = [examples(1)[0], Example("a", "x" * 100, "t"), Example("b", "\ud800", "t")]

    frame, _ = check(run(make_task(kind="embed"), rows, FakeEmbedder(context=50)), start=0, stop=3)

    assert frame["skipped"].to_list() == [
        None,
        "too long for the model's context of 50 tokens",
        "the text is not valid Unicode (a lone surrogate)",
    ]


def test_an_engine_that_leaves_a_prompt_out_is_found_out():
    class Forgetful(FakeEmbedder):
        def embed(self, requests, *, stopped):
            yield from list(super().embed(requests, stopped=stopped))[1:]

    with pytest.raises(EngineError, match="1 prompts"):
        run(make_task(kind="embed"), examples(3), Forgetful())
