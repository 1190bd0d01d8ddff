"""What both engines promise, each of them with real weights."""

from __future__ import annotations

import importlib.util
import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from premem.errors import CheckpointError, EngineError, Interrupted
from premem.wire.jobs import Sampling
from premem_worker.checkpoints import folder as checkpoints
from premem_worker.engines.choose import make_engine
from premem_worker.engines.feed import Feed
from premem_worker.engines.protocol import Engine
from premem_worker.engines.requests import Sampled, SampleRequest, ScoreRequest
from premem_worker.engines.transformers.texts import GrowingText
from tests.checkpoints import make_checkpoint

NEEDS_VLLM = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of two runs, one with tied embeddings and one without."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        make_checkpoint(folder / f"tied-{seed}", seed=seed, tied=True)
        make_checkpoint(folder / f"untied-{seed}", seed=seed, tied=False)
    return folder


@pytest.fixture(scope="module", params=["transformers", pytest.param("vllm", marks=NEEDS_VLLM)])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = make_engine(request.param)
    yield engine
    engine.close()


def test_scores_are_those_of_a_plain_forward_pass(engine: Engine, runs: Path) -> None:
    engine.load(runs / "tied-1", dtype=None)

    scored = run(engine, scoring(engine))

    for request in scoring(engine):
        log_likelihood, tokens = plain_score(runs / "tied-1", request)
        assert scored[request.row].tokens == tokens
        assert scored[request.row].log_likelihood / tokens == pytest.approx(log_likelihood / tokens, abs=1e-5)


def test_greedy_answers_are_those_of_a_plain_loop(engine: Engine, runs: Path) -> None:
    engine.load(runs / "tied-1", dtype=None)
    greedy = Sampling(samples=1, temperature=0.0, max_tokens=24, stop=[])

    sampled = run(engine, sampling_requests(engine, samples=1), greedy)

    for request in sampling_requests(engine, samples=1):
        answer = sampled[request.row, 0]
        assert answer.text == plain_greedy(runs / "tied-1", request, max_tokens=24)
        assert (answer.tokens, answer.finished) == (24, False)


def test_a_seed_gives_its_answer_in_any_company(engine: Engine, runs: Path) -> None:
    engine.load(runs / "tied-1", dtype=None)
    requests = sampling_requests(engine, samples=4)
    together = run(engine, [*scoring(engine), *requests], WARM)

    reversed_seeds = [SampleRequest(r.row, r.tokens, r.seeds[::-1]) for r in reversed(requests)]
    backwards = run(engine, reversed_seeds, WARM)
    alone = run(engine, [SampleRequest(0, requests[0].tokens, requests[0].seeds[2:3])], WARM)

    assert {(row, 3 - sample): answer.text for (row, sample), answer in backwards.items()} == {
        key: answer.text for key, answer in together.items() if isinstance(key, tuple)
    }
    assert alone[0, 0].text == together[0, 2].text
    assert len({together[0, sample].text for sample in range(4)}) == 4


def test_an_answer_ends_before_its_stop_string(engine: Engine, runs: Path) -> None:
    engine.load(runs / "tied-1", dtype=None)
    requests = sampling_requests(engine, samples=3)
    unstopped = run(engine, requests, WARM)

    whole = unstopped[0, 0].text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 2]
    stopped = run(engine, requests, WARM.model_copy(update={"stop": ["never said", stop]}))

    assert stopped[0, 0].text == whole[: whole.index(stop)]
    assert stopped[0, 0].finished
    assert stopped[0, 0].tokens < unstopped[0, 0].tokens
    for key, answer in stopped.items():
        assert stop not in answer.text
        assert answer.text == unstopped[key].text.split(stop)[0]


def test_an_answer_ends_at_the_end_token_of_its_own_checkpoint(engine: Engine, runs: Path, tmp_path: Path) -> None:
    ended = make_checkpoint(tmp_path / "ended", seed=1, tied=True)
    engine.load(runs / "tied-1", dtype=None)
    request = sampling_requests(engine, samples=1)[0]
    greedy = Sampling(samples=1, temperature=0.0, max_tokens=24, stop=[])
    tokens = plain_greedy_tokens(runs / "tied-1", request, max_tokens=24)
    end = next(token for token in tokens if tokens.index(token) > 3)
    config = json.loads((ended / "generation_config.json").read_text())
    (ended / "generation_config.json").write_text(json.dumps(config | {"eos_token_id": [2, end]}))

    engine.load(ended, dtype=None)
    answer = run(engine, [request], greedy)[0, 0]

    assert answer.finished
    assert answer.tokens == tokens.index(end) + 1
    assert answer.text == plain_greedy(runs / "tied-1", request, max_tokens=tokens.index(end))


def test_an_interrupted_engine_goes_on_with_the_next_pass(engine: Engine, runs: Path) -> None:
    engine.load(runs / "tied-1", dtype=None)
    before = outcome(engine)
    asked = 0

    def stopped() -> bool:
        nonlocal asked
        asked += 1
        return asked > 6

    with pytest.raises(Interrupted):
        list(engine.run(sampling_requests(engine, samples=8), sampling=WARM, stopped=stopped))

    assert asked == 7
    assert outcome(engine) == before
    engine.load(runs / "tied-2", dtype=None)
    engine.load(runs / "tied-1", dtype=None)
    assert outcome(engine) == before


def test_a_pass_that_is_not_listened_to_the_end_leaves_nothing_running(engine: Engine, runs: Path) -> None:
    engine.load(runs / "tied-1", dtype=None)
    before = outcome(engine)
    results = engine.run(sampling_requests(engine, samples=8), sampling=WARM, stopped=never)
    next(results)
    results.close()  # type: ignore[attr-defined]

    engine.load(runs / "tied-2", dtype=None)
    engine.load(runs / "tied-1", dtype=None)

    assert outcome(engine) == before


def test_loading_the_same_folder_again_does_nothing_unless_its_files_changed(
    engine: Engine, runs: Path, tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint", seed=1)
    engine.load(folder, dtype=None)
    before = outcome(engine)
    engine.load(folder, dtype=None)
    again = outcome(engine)
    (folder / "model.safetensors").unlink()
    make_checkpoint(folder, seed=2)

    engine.load(folder, dtype=None)

    assert again == before
    assert outcome(engine) != before


def test_answers_are_drawn_from_what_temperature_and_top_p_leave(engine: Engine, runs: Path) -> None:
    engine.load(runs / "tied-1", dtype=None)
    drawn, request = 3000, sampling_requests(engine, samples=1)[0]
    expected = plain_first_texts(runs / "tied-1", request, temperature=2.0, top_p=0.8)
    one_token = Sampling(samples=1, temperature=2.0, top_p=0.8, max_tokens=1, stop=[])

    sampled = run(engine, [SampleRequest(0, request.tokens, tuple(range(drawn)))], one_token)

    seen = Counter(answer.text for answer in sampled.values())
    assert set(seen) <= set(expected)
    assert len(expected) > 5
    often = [text for text, chance in expected.items() if chance * drawn >= 5]
    counts = [seen[text] for text in often] + [drawn - sum(seen[text] for text in often)]
    chances = [expected[text] for text in often] + [1 - sum(expected[text] for text in often)]
    if chances[-1] * drawn < 5:
        counts, chances = counts[:-1], [chance / sum(chances[:-1]) for chance in chances[:-1]]
    assert chisquare(counts, [chance * sum(counts) for chance in chances]).pvalue > 1e-3


def test_requests_that_come_while_the_engine_runs_get_the_answers_of_one_pass(engine: Engine, runs: Path) -> None:
    engine.load(runs / "tied-1", dtype=None)
    first, *others = [*scoring(engine), *sampling_requests(engine, samples=2)]
    whole = run(engine, [first, *others], WARM)
    feed = Feed([first])
    results = engine.run(feed, sampling=WARM, stopped=never)

    fed = [next(results)]
    later = threading.Timer(0.2, lambda: (feed.add(others), feed.close()))  # to an engine that waits by then
    later.start()
    fed += results

    assert {(r.row, r.sample): r.text for r in fed if isinstance(r, Sampled)} == {
        key: answer.text for key, answer in whole.items() if isinstance(key, tuple)
    }
    assert len(fed) == len(whole)


def test_an_engine_that_waits_for_requests_can_be_stopped(engine: Engine, runs: Path) -> None:
    engine.load(runs / "tied-1", dtype=None)
    before = outcome(engine)
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()

    with pytest.raises(Interrupted):
        list(engine.run(Feed(), sampling=WARM, stopped=stop.is_set))

    assert outcome(engine) == before


def test_a_request_in_a_feed_that_does_not_fit_is_the_callers_mistake(engine: Engine, runs: Path) -> None:
    engine.load(runs / "tied-1", dtype=None)

    with pytest.raises(ValueError, match="row 8 does not fit"):
        list(engine.run(Feed([ScoreRequest(8, tuple([5] * 2000), 3)]), sampling=Sampling(), stopped=never))


def test_what_does_not_fit_is_the_callers_mistake(engine: Engine, runs: Path) -> None:
    engine.load(runs / "tied-1", dtype=None)
    long = tuple([5] * 1000)

    with pytest.raises(ValueError, match="row 7 does not fit"):
        list(engine.run([SampleRequest(7, long, (1,))], sampling=Sampling(max_tokens=64), stopped=never))
    with pytest.raises(ValueError, match="row 8 does not fit"):
        list(engine.run([ScoreRequest(8, long + long, 3)], sampling=Sampling(), stopped=never))
    with pytest.raises(ValueError, match="row 9 does not fit"):
        list(engine.run([ScoreRequest(9, (1, 2, 3), 0)], sampling=Sampling(), stopped=never))


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_swapped_weights_answer_like_freshly_loaded_ones(engine: Engine, runs: Path, kind: str) -> None:
    first, second = runs / f"{kind}-1", runs / f"{kind}-2"
    engine.close()
    engine.load(first, dtype=None)
    fresh_first = outcome(engine)

    engine.load(second, dtype=None)
    swapped_second = outcome(engine)
    engine.load(first, dtype=None)
    swapped_first = outcome(engine)

    engine.close()
    engine.load(second, dtype=None)
    assert swapped_second == outcome(engine)
    assert swapped_first == fresh_first
    assert swapped_first != swapped_second


def test_a_model_of_another_shape_gets_a_fresh_engine(engine: Engine, runs: Path, tmp_path: Path) -> None:
    wider = make_checkpoint(tmp_path / "wider", seed=3, hidden=128, layers=1, context=512)
    engine.load(wider, dtype=None)
    wide, wide_context = run(engine, scoring(engine)), engine.context

    engine.load(runs / "tied-1", dtype=None)

    narrow = run(engine, scoring(engine))
    for request in scoring(engine):
        assert wide[request.row].log_likelihood == pytest.approx(plain_score(wider, request)[0], abs=1e-3)
        assert narrow[request.row].log_likelihood == pytest.approx(plain_score(runs / "tied-1", request)[0], abs=1e-3)
    assert wide_context in (511, 512)  # vLLM keeps one for a token that nobody asked for
    assert engine.context in (1023, 1024)


def test_the_dtype_is_the_one_that_was_saved_or_the_one_asked_for(engine: Engine, runs: Path) -> None:
    engine.load(runs / "tied-1", dtype=None)
    saved = engine.produced_by
    exact = run(engine, scoring(engine))
    engine.load(runs / "tied-1", dtype="bfloat16")
    asked = engine.produced_by
    rounded = run(engine, scoring(engine))

    assert (saved["dtype"], asked["dtype"]) == ("float32", "bfloat16")
    assert saved["engine"] == engine.name
    assert engine.name in saved["versions"]
    differences = [abs(exact[row].log_likelihood - rounded[row].log_likelihood) / exact[row].tokens for row in exact]
    assert 1e-5 < max(differences) < 0.3


def test_nan_weights_are_refused_and_the_next_checkpoint_loads(engine: Engine, runs: Path, tmp_path: Path) -> None:
    broken = make_checkpoint(tmp_path / "broken", seed=1)
    change_weights(broken, lambda weights: weights["model.norm.weight"].fill_(math.nan))
    engine.load(runs / "tied-1", dtype=None)
    before = outcome(engine)

    with pytest.raises(CheckpointError, match=r"broken.*NaN"):
        engine.load(broken, dtype=None)
    with pytest.raises(EngineError, match="no checkpoint is loaded"):
        _ = engine.context
    engine.load(runs / "tied-1", dtype=None)

    assert outcome(engine) == before


def test_weights_that_lack_a_layer_are_refused(engine: Engine, tmp_path: Path) -> None:
    broken = make_checkpoint(tmp_path / "broken", seed=1)
    change_weights(broken, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))

    with pytest.raises(CheckpointError, match=r"broken.*up_proj"):
        engine.load(broken, dtype=None)
    with pytest.raises(EngineError, match="no checkpoint is loaded"):
        list(engine.run([], sampling=Sampling(), stopped=never))


def test_a_tokenizer_beyond_the_embedding_is_refused(engine: Engine, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint", seed=1, vocab_size=384)

    with pytest.raises(CheckpointError, match="tokenizer of 400 tokens and a model that knows 384"):
        engine.load(folder, dtype=None)


@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_both_engines_say_the_same(runs: Path) -> None:
    perplexities: list[list[float]] = []
    texts: list[list[str]] = []
    greedy = Sampling(samples=1, temperature=0.0, max_tokens=32, stop=["a"])
    for name in ("transformers", "vllm"):
        engine = make_engine(name)
        engine.load(runs / "untied-1", dtype=None)
        scored = run(engine, scoring(engine))
        perplexities.append([math.exp(-score.log_likelihood / score.tokens) for _, score in sorted(scored.items())])
        sampled = run(engine, sampling_requests(engine, samples=1), greedy)
        texts.append([answer.text for _, answer in sorted(sampled.items())])
        engine.close()

    assert perplexities[0] == pytest.approx(perplexities[1], rel=1e-4)
    assert texts[0] == texts[1]


WARM = Sampling(samples=4, temperature=1.0, top_p=0.9, max_tokens=20, stop=[])

QUESTIONS = [
    f"{name} has {first} apples and buys {second} more.{' They are all green.' * (first % 3)} How many now?\nAnswer:"
    for name, first, second in [("Ada", 7, 5), ("Ben", 12, 30), ("Cleo", 23, 4), ("Dan", 41, 6), ("Eve", 8, 17)]
]


def never() -> bool:
    return False


def scoring(engine: Engine) -> list[ScoreRequest]:
    encode = engine.tokenizer.encode
    targets = [f" It is {'one and ' * (row % 4)}{row}.\nDone." for row in range(len(QUESTIONS))]
    return [
        ScoreRequest(row, tuple(encode(question + target)), target_start=len(encode(question)))
        for row, (question, target) in enumerate(zip(QUESTIONS, targets, strict=True))
    ]


def sampling_requests(engine: Engine, *, samples: int) -> list[SampleRequest]:
    return [
        SampleRequest(row, tuple(engine.tokenizer.encode(question)), tuple(2**40 * row + j for j in range(samples)))
        for row, question in enumerate(QUESTIONS)
    ]


def run(
    engine: Engine, requests: Sequence[ScoreRequest | SampleRequest], sampling: Sampling | None = None
) -> dict[Any, Any]:
    """Scores by row, answers by row and sample."""
    results = list(engine.run(requests, sampling=sampling or Sampling(), stopped=never))
    found = {(r.row, r.sample) if isinstance(r, Sampled) else r.row: r for r in results}
    assert len(found) == len(results)
    return found


def outcome(engine: Engine) -> dict[Any, Any]:
    return run(engine, [*scoring(engine), *sampling_requests(engine, samples=2)], WARM)


def plain_model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def plain_score(folder: Path, request: ScoreRequest) -> tuple[float, int]:
    with torch.no_grad():
        logits = plain_model(folder)(input_ids=torch.tensor([request.tokens])).logits[0].double()
    values = torch.log_softmax(logits, dim=-1)
    targets = range(request.target_start, len(request.tokens))
    return sum(float(values[place - 1, request.tokens[place]]) for place in targets), len(targets)


def plain_first_texts(folder: Path, request: SampleRequest, *, temperature: float, top_p: float) -> dict[str, float]:
    """How likely each text of a first token is."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        logits = plain_model(folder)(input_ids=torch.tensor([request.tokens])).logits[0, -1].double()
    chances = torch.softmax(logits / temperature, dim=-1).tolist()
    kept: dict[int, float] = {}
    for token in sorted(range(len(chances)), key=lambda token: -chances[token]):
        if sum(kept.values()) >= top_p:
            break
        kept[token] = chances[token]
    texts: dict[str, float] = {}
    for token, chance in kept.items():
        grown = GrowingText(tokenizer, request.tokens, [])
        if token not in checkpoints.end_tokens(folder):
            grown.append(token)
        texts[grown.text] = texts.get(grown.text, 0.0) + chance / sum(kept.values())
    return texts


def plain_greedy_tokens(folder: Path, request: SampleRequest, *, max_tokens: int) -> list[int]:
    model, tokens = plain_model(folder), list(request.tokens)
    for _ in range(max_tokens):
        with torch.no_grad():
            tokens.append(int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(request.tokens) :]


def plain_greedy(folder: Path, request: SampleRequest, *, max_tokens: int) -> str:
    from transformers import AutoTokenizer

    text: str = AutoTokenizer.from_pretrained(folder).decode(
        plain_greedy_tokens(folder, request, max_tokens=max_tokens), skip_special_tokens=True
    )
    return text.rstrip("\ufffd")  # bytes that are no character yet


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
