"""What the transformers engine is made of: drawing, growing texts, batches, and too little memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from premem.errors import CheckpointError, EngineError
from premem.wire.jobs import Sampling
from premem_worker.engines.requests import Sampled, SampleRequest, Scored, ScoreRequest
from premem_worker.engines.transformers import scoring as scoring_module
from premem_worker.engines.transformers.drawing import Chance, draw
from premem_worker.engines.transformers.engine import TransformersEngine
from premem_worker.engines.transformers.sampling import each_wanted, sampling_batches
from premem_worker.engines.transformers.scoring import scoring_batches
from premem_worker.engines.transformers.texts import GrowingText
from tests.checkpoints import make_checkpoint, make_tokenizer
from tests.worker.engines.memory import hold_at_most, intercept


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.8, 0.95), (2.0, 0.5), (0.3, 0.7), (1.0, 1e-9)])
def test_evenly_spread_numbers_draw_each_token_by_its_share(temperature: float, top_p: float) -> None:
    logits_V = torch.tensor([0.3, -1.0, 2.0, 0.0, 1.5, -30.0, 1.0])
    count = 20_000
    uniforms_R = (torch.arange(count, dtype=torch.float64) + 0.5) / count

    tokens_R = draw(logits_V.expand(count, -1), uniforms_R, temperature=temperature, top_p=top_p)

    shares = torch.bincount(tokens_R, minlength=7).double() / count
    assert shares.tolist() == pytest.approx(nucleus(logits_V, temperature, top_p), abs=1.5 / count)


def test_a_flat_distribution_over_many_tokens_is_drawn_whole() -> None:
    logits_V = torch.linspace(0.0, 1.0, 1000)
    count = 20_000
    uniforms_R = (torch.arange(count, dtype=torch.float64) + 0.5) / count

    tokens_R = torch.cat(
        [draw(logits_V.expand(len(u), -1), u, temperature=1.0, top_p=0.9) for u in uniforms_R.chunk(10)]
    )

    shares = torch.bincount(tokens_R, minlength=1000).double() / count
    assert shares.tolist() == pytest.approx(nucleus(logits_V, 1.0, 0.9), abs=1.5 / count)


def test_a_row_is_drawn_the_same_beside_any_other() -> None:
    peaked, flat = torch.zeros(1000), torch.zeros(1000)
    peaked[17] = 20.0
    uniform = torch.tensor([0.4321], dtype=torch.float64)

    alone = [draw(row[None], uniform, temperature=1.0, top_p=0.95).item() for row in (peaked, flat)]
    beside = draw(torch.stack([peaked, flat]), uniform.expand(2), temperature=1.0, top_p=0.95).tolist()

    assert alone == beside
    assert alone[0] == 17


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_draw_nothing(temperature: float) -> None:
    logits_RV = torch.zeros(2, 5)
    logits_RV[1, 3] = torch.nan

    with pytest.raises(FloatingPointError):
        draw(logits_RV, torch.tensor([0.5, 0.5], dtype=torch.float64), temperature=temperature, top_p=0.9)


def test_temperature_zero_takes_the_likeliest() -> None:
    assert draw(torch.tensor([[0.0, 3.0, 1.0]]), None, temperature=0.0, top_p=1.0).tolist() == [1]


def test_chance_is_a_function_of_the_seed() -> None:
    one, same, other = Chance(2**63 - 1), Chance(2**63 - 1), Chance(2**63 - 2)

    numbers = [one.next() for _ in range(1000)]

    assert numbers == [same.next() for _ in range(1000)]
    assert numbers != [other.next() for _ in range(1000)]
    assert all(0 <= number < 1 for number in numbers)
    assert abs(sum(numbers) / 1000 - 0.5) < 0.05


def test_a_character_of_several_tokens_appears_once_it_is_whole() -> None:
    tokenizer = make_tokenizer()
    tokens = tokenizer.encode("né🙂", add_special_tokens=False)
    grown = GrowingText(tokenizer, tokenizer.encode("Q:"), [])

    seen = []
    for token in tokens:
        grown.append(token)
        seen.append(grown.text)

    assert seen == ["n", "n", "né", "né", "né", "né", "né🙂"]


def test_a_stop_string_is_found_across_tokens_and_cut_with_what_follows() -> None:
    tokenizer = make_tokenizer()
    tokens = [token for piece in ("It is 7", "\nD", "on", "e. And") for token in encode(tokenizer, piece)]
    grown = GrowingText(tokenizer, tokenizer.encode("Q:"), ["\nDone", "\nDone."])

    taken = next(count for count, token in enumerate(tokens, start=1) if grown.append(token))

    assert 3 < taken < len(tokens)
    assert grown.text == "It is 7"


def test_the_prompt_does_not_count_for_stop_strings() -> None:
    tokenizer = make_tokenizer()
    grown = GrowingText(tokenizer, tokenizer.encode("Q:\nDo"), ["\nDone."])

    stopped = [grown.append(token) for token in encode(tokenizer, "ne.")]

    assert not any(stopped)
    assert grown.text == "ne."


def test_batches_hold_every_request_once_within_their_bounds() -> None:
    scores = [ScoreRequest(row, tuple(range(1, 3 + row * 7 % 50)), 1) for row in range(100)]
    samples = [SampleRequest(row, tuple(range(1 + row * 7 % 50)), tuple(range(5))) for row in range(100)]

    score_batches = scoring_batches(scores, batch_tokens=200)
    sample_batches = sampling_batches(
        each_wanted(samples), batch_rows=16, batch_tokens=120, cache_tokens=800, max_tokens=30
    )

    assert sorted(r.row for batch in score_batches for r in batch) == list(range(100))
    assert all(len(batch) * max(len(r.tokens) for r in batch) <= 200 for batch in score_batches)
    asked = [(wanted.request.row, wanted.sample) for batch in sample_batches for wanted in batch]
    assert sorted(asked) == [(row, sample) for row in range(100) for sample in range(5)]
    for batch in sample_batches:
        longest = max(len(wanted.request.tokens) for wanted in batch)
        assert len(batch) <= 16
        assert len({wanted.request.row for wanted in batch}) * longest <= 120
        assert len(batch) * (longest + 30) <= 800


def test_long_references_are_scored_in_pieces_with_the_same_result(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [ScoreRequest(row, tuple(3 + (row + n * n) % 300 for n in range(40 + row)), 5 + row) for row in range(6)]
    whole = scores(engine, requests)

    monkeypatch.setattr(scoring_module, "LOGITS", 7 * 6 * 400)  # seven places of the batch
    pieces = scores(engine, requests)

    assert pieces == pytest.approx(whole, rel=1e-6)


def test_a_batch_that_memory_does_not_hold_is_halved_once(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = [ScoreRequest(row, (1, 5, 6, 7, 8), 2) for row in range(8)]
    sample = [SampleRequest(row, (1, 5, 6), (row, row + 1)) for row in range(4)]
    before = list(engine.run([*score, *sample], sampling=SAMPLING, stopped=lambda: False))

    with monkeypatch.context() as patch:
        hold_at_most(engine, 4, patch)
        halved = list(engine.run([*score, *sample], sampling=SAMPLING, stopped=lambda: False))
    with monkeypatch.context() as patch:
        hold_at_most(engine, 3, patch)
        with pytest.raises(EngineError, match="too little memory for 4 rows"):
            list(engine.run(score, sampling=SAMPLING, stopped=lambda: False))

    assert by_row(halved) == by_row(before)


def test_answers_given_before_memory_ran_out_are_not_given_again(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [SampleRequest(row, (1, 5, 6), tuple(range(3 * row, 3 * row + 3))) for row in range(4)]
    short = Sampling(samples=3, temperature=1.0, top_p=1.0, max_tokens=40, stop=["a", "e", "o"])
    before = list(engine.run(requests, sampling=short, stopped=lambda: False))

    with monkeypatch.context() as patch:
        fail_once_after(engine, 6, patch)
        after = list(engine.run(requests, sampling=short, stopped=lambda: False))

    assert len({answer.tokens for answer in before if isinstance(answer, Sampled)}) > 3
    assert len(after) == len(before)
    assert by_row(after) == by_row(before)


def test_equal_signatures_share_the_model_in_memory(tmp_path: Path) -> None:
    engine = TransformersEngine()
    engine.load(make_checkpoint(tmp_path / "one", seed=1), dtype=None)
    model = engine._now().model
    engine.load(make_checkpoint(tmp_path / "two", seed=2), dtype=None)
    swapped = engine._now().model
    engine.load(make_checkpoint(tmp_path / "wider", hidden=128), dtype=None)

    assert swapped is model
    assert engine._now().model is not model


def test_a_prompt_is_read_once_for_the_answers_of_a_batch(tmp_path: Path) -> None:
    engine = TransformersEngine(device="cpu")
    engine.load(make_checkpoint(tmp_path), dtype=None)
    asked = [ScoreRequest(0, (1, 5, 6, 7), 2), SampleRequest(0, (1, 5, 6), (1, 2, 3))]

    scored, *sampled = engine.run(asked, sampling=Sampling(max_tokens=2), stopped=lambda: False)

    assert (scored.prompt_tokens, scored.cached_tokens) == (4, 0)
    assert sorted((answer.prompt_tokens, answer.cached_tokens) for answer in sampled) == [(3, 0), (3, 3), (3, 3)]


def test_unexpected_weights_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_checkpoint(tmp_path / "checkpoint", layers=2)
    weights = load_file(folder / "model.safetensors")
    extra = {
        name.replace("layers.1", "layers.2"): value.clone() for name, value in weights.items() if "layers.1" in name
    }
    save_file(weights | extra, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(CheckpointError, match=r"unexpected model\.layers\.2"):
        TransformersEngine().load(folder, dtype=None)


SAMPLING = Sampling(samples=2, temperature=1.0, top_p=0.9, max_tokens=8, stop=[])


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(device="cpu")
    engine.load(make_checkpoint(tmp_path_factory.mktemp("runs") / "checkpoint", seed=1), dtype=None)
    yield engine
    engine.close()


def nucleus(logits_V: torch.Tensor, temperature: float, top_p: float) -> list[float]:
    """What each token is drawn by, worked out one token after the other."""
    chances = torch.softmax(logits_V.double() / temperature, dim=-1).tolist()
    kept: dict[int, float] = {}
    for token in sorted(range(len(chances)), key=lambda token: -chances[token]):
        if sum(kept.values()) >= top_p:
            break
        kept[token] = chances[token]
    return [kept.get(token, 0.0) / sum(kept.values()) for token in range(len(chances))]


def encode(tokenizer: Any, text: str) -> list[int]:
    tokens: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return tokens


def scores(engine: TransformersEngine, requests: list[ScoreRequest]) -> list[float]:
    results = list(engine.run(requests, sampling=Sampling(), stopped=lambda: False))
    return [result.log_likelihood for result in sorted(results, key=lambda r: r.row) if isinstance(result, Scored)]


def by_row(results: list[Scored | Sampled]) -> dict[tuple[int, int], object]:
    return {
        (r.row, r.sample): r.text if isinstance(r, Sampled) else None for r in results if isinstance(r, Sampled)
    } | {(r.row, -1): round(r.log_likelihood, 4) for r in results if isinstance(r, Scored)}


def fail_once_after(engine: TransformersEngine, calls: int, patch: pytest.MonkeyPatch) -> None:
    intercept(engine, patch, lambda _given, made: made == calls)


def test_the_cache_is_told_as_what_answers_of_the_whole_context_fill_up_to_its_share(tmp_path: Path):
    folder = make_checkpoint(tmp_path / "checkpoint", layers=2, hidden=64, heads=2, context=512)
    engine = TransformersEngine(device="cpu", batch_rows=4)
    engine.load(folder, dtype="float32")

    assert engine.cache_bytes == 4 * 512 * (2 * 2 * 64 * 4)  # keys and values of two layers, 64 numbers each

    engine.batch_rows = 10**6
    assert engine.cache_bytes == 2**30
