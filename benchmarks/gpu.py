"""How near the engine comes to what a card can do, and what scoring GSM8K on it would take.

    python -m benchmarks.gpu [--shape 8b] [--rows 512] [--answer-tokens 120] [--device cuda] [--keep]

Makes two checkpoints of the named shape with random weights (`8b` is Llama 3's; where the memory is too small, the next
smaller one), starts the engine as a worker does, and measures: scoring and sampling beside vLLM's own loop over the same
requests, the swap of weights, and the multiplications that the card does in a second, by itself. Random weights end no
answer, so every answer has its full length. The forecast is for 7,473 examples, 6 checkpoints, 5 answers.
`--shape tiny --device cpu --rows 16 --answer-tokens 16` tries the script where there is no GPU.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.measured import Measured, Ratio, header
from lab.model import load as load_lab_model
from lab.questions import training_rows
from premem.method.sample_seeds import sample_seed
from premem.wire.jobs import Sampling, Template
from premem_worker.engines.requests import SampleRequest, ScoreRequest
from premem_worker.engines.vllm.engine import VllmEngine
from premem_worker.engines.vllm.run import scoring_params, tokens_input

ROUNDS = 3
HOUSE = Path(__file__).parents[1]
GSM8K = (7_473, 6, 5)
"""Examples, checkpoints, answers."""
SPARE = 1.35
"""Times the weights: what must fit beside them, the cache included."""


@dataclass(frozen=True, slots=True)
class Shape:
    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    inner: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        width = self.hidden // self.heads * self.key_value_heads
        layer = 2 * self.hidden * (self.hidden + width) + 3 * self.hidden * self.inner
        return self.layers * layer + 2 * self.vocabulary * self.hidden


SHAPES = {
    "8b": Shape(4096, 32, 32, 8, 14_336, 128_256),
    "3b": Shape(3072, 28, 24, 8, 8192, 128_256),
    "1b": Shape(2048, 16, 32, 8, 8192, 128_256),
    "tiny": Shape(64, 2, 2, 2, 128, 2048),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--answer-tokens", type=int, default=120)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU here: --shape tiny --device cpu tries the script without one")
    print(header())
    dtype = torch.bfloat16 if arguments.device == "cuda" else torch.float32
    name = fitting(arguments.shape, arguments.device, dtype)
    card = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    measured = Measured(
        f"gpu-{name}-{arguments.device}",
        f"A Llama of the shape {name} with random weights in {str(dtype).removeprefix('torch.')} on {card}: {arguments.rows} "
        f"examples, 5 answers of {arguments.answer_tokens} tokens.",
    )
    sampling = Sampling(max_tokens=arguments.answer_tokens, stop=[])
    multiplied = multiplications(arguments.device, dtype)
    with tempfile.TemporaryDirectory() as folder:
        first, second = (make(Path(folder) / f"checkpoint-{n}", SHAPES[name], dtype, seed=n) for n in (1, 2))
        engine = VllmEngine()
        started = time.perf_counter()
        engine.load(first, dtype=str(dtype).removeprefix("torch."))
        measured.note("start, seconds", time.perf_counter() - started)
        scores, samples = requests(engine, arguments.rows, sampling)
        rates = measure(engine, scores, samples, sampling, measured)
        swaps = [
            seconds(lambda at=at: engine.load(at, dtype=str(dtype).removeprefix("torch.")))
            for at in (second, first) * 2
        ]
        measured.note("swap, seconds", statistics.median(swaps))
        engine.close()
    forecast(measured, SHAPES[name], rates, scores, samples, multiplied, swap=statistics.median(swaps))
    if arguments.keep:
        measured.keep()


def fitting(name: str, device: str, dtype: torch.dtype) -> str:
    """The shape, or the next smaller one that the card's memory holds."""
    names = list(SHAPES)
    for candidate in names[names.index(name) :]:
        needed = SPARE * SHAPES[candidate].parameters * dtype.itemsize
        if device == "cpu" or needed < torch.cuda.get_device_properties(0).total_memory:
            if candidate != name:
                print(f"{name} does not fit: {candidate} instead")
            return candidate
    raise SystemExit("no shape fits into this card's memory")


def make(folder: Path, shape: Shape, dtype: torch.dtype, *, seed: int) -> Path:
    """A checkpoint, with the lab's tokenizer, whose tokens are among the shape's."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        intermediate_size=shape.inner,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        dtype=dtype,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="4GB")
    finally:
        torch.set_default_dtype(before)
    _, tokenizer = load_lab_model(HOUSE / "lab/base")
    tokenizer.save_pretrained(folder)
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return folder


def requests(engine: VllmEngine, rows: int, sampling: Sampling) -> tuple[list[ScoreRequest], list[SampleRequest]]:
    template, scores, samples = Template(), [], []
    for number, row in enumerate(training_rows(rows, seed=5)):
        prompt = tuple(engine.tokenizer.encode(template.render_prompt(row["question"])))
        whole = tuple(
            engine.tokenizer.encode(template.render_prompt(row["question"]) + template.render_target(row["answer"]))
        )
        scores.append(ScoreRequest(number, whole, target_start=max(1, min(len(prompt), len(whole) - 1))))
        seeds = tuple(
            sample_seed(0, checkpoint="c", example=str(number), sample=sample) for sample in range(sampling.samples)
        )
        samples.append(SampleRequest(number, prompt, seeds))
    return scores, samples


def measure(
    engine: VllmEngine, scores: list[ScoreRequest], samples: list[SampleRequest], sampling: Sampling, measured: Measured
) -> tuple[float, float]:
    """Tokens per second of scoring (read) and of sampling (drawn)."""
    read = sum(len(request.tokens) for request in scores)
    ours: tuple[list[float], list[float]] = ([], [])
    theirs: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS + 1):
        for place, part in enumerate((scores, samples)):
            drawn = [0]

            def through_engine(part: list[Any] = part, drawn: list[int] = drawn) -> None:
                engine._forget_prefixes()
                for outcome in engine.run(part, sampling=sampling, stopped=lambda: False):
                    drawn[0] += getattr(outcome, "tokens", 0)

            took = [seconds(through_engine), seconds(lambda part=part: bare(engine, part, sampling))]
            total = read if place == 0 else drawn[0]
            if number:  # the first one compiles
                ours[place].append(total / took[0])
                theirs[place].append(total / took[1])
    for place, what in enumerate(("scoring", "sampling")):
        measured.tell(Ratio(what, "engine", ours[place], "vLLM alone", theirs[place], "tokens/s", aim="at least 0.95"))
    return statistics.median(ours[0]), statistics.median(ours[1])


def bare(engine: VllmEngine, part: list[Any], sampling: Sampling) -> None:
    """vLLM's own loop over everything at once."""
    llm: Any = engine._llm
    while not llm.reset_prefix_cache():
        time.sleep(0.01)
    run = engine._pass(engine._now(), sampling, lambda: False)
    for number, request in enumerate(part):
        if isinstance(request, ScoreRequest):
            llm.add_request(f"{number}", tokens_input(request.tokens), scoring_params())
        else:
            for sample, seed in enumerate(request.seeds):
                llm.add_request(f"{number} {sample}", tokens_input(request.tokens), run._sampling_params(seed))
    while llm.has_unfinished_requests():
        llm.step()


def multiplications(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations per second of one large matrix product: more than that nothing reaches."""
    size = 8192 if device == "cuda" else 1024
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def multiply() -> None:
        for _ in range(20):
            torch.matmul(one, other)
        if device == "cuda":
            torch.cuda.synchronize()

    multiply()
    return 20 * 2 * size**3 / min(seconds(multiply) for _ in range(ROUNDS))


def forecast(
    measured: Measured,
    shape: Shape,
    rates: tuple[float, float],
    scores: list[ScoreRequest],
    samples: list[SampleRequest],
    multiplied: float,
    *,
    swap: float,
) -> None:
    limit = multiplied / (2 * shape.parameters)
    measured.note("matrix product, TFLOP/s", multiplied / 1e12)
    measured.note("limit of the card, tokens/s", limit)
    for what, rate in zip(("scoring", "sampling"), rates, strict=True):
        measured.note(f"{what}, share of that limit", rate / limit)
    examples, checkpoints, answers = GSM8K
    read = examples * checkpoints * sum(len(one.tokens) for one in scores) / len(scores)
    drawn = examples * checkpoints * answers * 120.0
    took = read / rates[0] + drawn / rates[1] + checkpoints * swap
    measured.note("GSM8K, minutes for every answer", took / 60)
    measured.note(
        "GSM8K, minutes for the 31% of the answers that change a score", (took - 0.69 * drawn / rates[1]) / 60
    )
    measured.note("GSM8K, floor in minutes", (read + drawn) / limit / 60)
    measured.note("prompt tokens per example", sum(len(one.tokens) for one in samples) / len(samples))


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
