"""What the engines save: sampling beside `generate`, and changing weights beside a fresh start.

    python -m benchmarks.engines [--checkpoints FOLDER FOLDER] [--questions 300] [--keep]

Two checkpoints of one run; absent, the lab's base and a copy of it with other weights. The first part samples the lab's
questions with the transformers engine and with Hugging Face's `generate` in sorted batches, in turns: useful tokens, up
to the stop string, per second of processor time. The second part loads checkpoints into vLLM, where it is installed:
a fresh engine in this process, which has imported vLLM already, beside a swap of weights; canaries included.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.measured import Measured, Ratio, header
from lab.model import prompt_and_target
from lab.questions import training_rows
from premem.method.sample_seeds import sample_seed
from premem.wire.jobs import Sampling
from premem_worker.engines.requests import SampleRequest
from premem_worker.engines.transformers.engine import TransformersEngine

ROUNDS = 3
SAMPLES = 5
BATCH = 64
HOUSE = Path(__file__).parents[1]
SAMPLING = Sampling(samples=SAMPLES, temperature=0.8, top_p=0.95, max_tokens=96, stop=["\nDone."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=Path, nargs=2)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    print(header())
    measured = Measured(
        "engines",
        "The transformers engine beside `generate`, and vLLM's swap of weights beside a fresh engine; a CPU, one thread.",
    )
    with tempfile.TemporaryDirectory() as folder:
        first, second = arguments.checkpoints or (HOUSE / "lab/base", other_weights(Path(folder)))
        sampling(measured, first, arguments.questions)
        if importlib.util.find_spec("vllm"):
            swapping(measured, first, second)
    if arguments.keep:
        measured.keep()


def other_weights(folder: Path) -> Path:
    """The lab's base, every weight a little larger."""
    shutil.copytree(HOUSE / "lab/base", folder / "other")
    weights = folder / "other/model.safetensors"
    larger = {name: tensor * 1.01 for name, tensor in load_file(weights).items()}
    save_file(larger, weights, metadata={"format": "pt"})
    return folder / "other"


def sampling(measured: Measured, folder: Path, questions: int) -> None:
    engine = TransformersEngine(device="cpu")
    engine.load(folder, dtype="float32")
    prompts = [prompt_and_target(row["question"], "")[0] for row in training_rows(questions, seed=5)]
    model, tokenizer = plain(folder)
    ours, theirs = [], []
    for number in range(ROUNDS):
        ours.append(rate(partial(engine_tokens, engine, prompts, seed=number)))
        theirs.append(rate(partial(generate_tokens, model, tokenizer, prompts, seed=number)))
    what = f"sampling {questions:,} x {SAMPLES} answers, by processor time"
    measured.tell(Ratio(what, "engine", ours, "generate", theirs, "tokens/s", aim="at least 2"))


def engine_tokens(engine: TransformersEngine, prompts: list[str], *, seed: int) -> int:
    requests = [
        SampleRequest(
            row=row,
            tokens=tuple(engine.tokenizer.encode(prompt)),
            seeds=tuple(sample_seed(seed, checkpoint="c", example=str(row), sample=s) for s in range(SAMPLES)),
        )
        for row, prompt in enumerate(prompts)
    ]
    return sum(answer.tokens for answer in engine.run(requests, sampling=SAMPLING, stopped=lambda: False))


@torch.inference_mode()
def generate_tokens(model: Any, tokenizer: Any, prompts: list[str], *, seed: int) -> int:
    """Up to the stop string; what a batch goes on computing for its slowest answer does not count."""
    torch.manual_seed(seed)
    useful = 0
    ordered = sorted(prompts, key=len)
    for start in range(0, len(ordered), BATCH // SAMPLES):
        batch = tokenizer(ordered[start : start + BATCH // SAMPLES], return_tensors="pt", padding=True)
        out = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            do_sample=True,
            temperature=SAMPLING.temperature,
            top_p=SAMPLING.top_p,
            top_k=0,
            max_new_tokens=SAMPLING.max_tokens,
            num_return_sequences=SAMPLES,
            stop_strings=SAMPLING.stop,
            tokenizer=tokenizer,
            pad_token_id=tokenizer.pad_token_id,
        )
        for tokens in out[:, batch["input_ids"].shape[1] :]:
            useful += int((tokens != tokenizer.pad_token_id).sum())
    return useful


def plain(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), tokenizer


def rate(work: Callable[[], int]) -> float:
    start = time.process_time()
    return work() / (time.process_time() - start)


def swapping(measured: Measured, first: Path, second: Path) -> None:
    from premem_worker.engines.vllm.engine import VllmEngine

    fresh, swapped = [], []
    for number in range(ROUNDS + 1):
        engine = VllmEngine()
        start = time.perf_counter()
        engine.load(first, dtype="float32")
        if number:  # the first one imports vLLM
            fresh.append(time.perf_counter() - start)
        for folder in (second, first):
            start = time.perf_counter()
            engine.load(folder, dtype="float32")
            if number:
                swapped.append(time.perf_counter() - start)
        engine.close()
    measured.tell(Ratio("vLLM's next checkpoint", "fresh engine", fresh, "swap", swapped, "s", aim="at least 20"))


if __name__ == "__main__":
    main()
