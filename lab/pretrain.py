"""Pretrain the lab's base: it knows the format and arithmetic, but none of the finetuning verbs' functions.

It reads problems with 48 other verbs, sums without a story, and questions with the finetuning verbs but
never an answer to one. One thread; about ten CPU minutes.

    python -m lab.pretrain --out lab/base
"""

from __future__ import annotations

import argparse
import hashlib
import math
import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from lab import questions
from lab.answers import IGNORED, Batch, accuracies, mean_losses, pad_batch, token_losses
from lab.model import load, new_model, new_tokenizer, prompt_and_target, save
from premem.output.progress import progress

BATCH = 64
CHAINS = 14
"""Of a batch: sums without a story."""
QUESTIONS_ONLY = 4
"""Of a batch: questions with the finetuning verbs, without an answer."""
WARM_UP = 100


def draw_batches(rng: random.Random, tokenizer: PreTrainedTokenizerFast) -> list[Batch]:
    """One step's texts in three parts of like length, so that little of the work goes into padding.

    Loss falls on the targets of problems, and on the whole of chains and of questions without an answer.
    """
    problems = [
        questions.draw_problem(rng, questions.PRETRAINING_VERBS, zipf=False)
        for _ in range(BATCH - CHAINS - QUESTIONS_ONLY)
    ]
    pairs = [prompt_and_target(problem.question, problem.trace) for problem in problems]
    prompts = tokenizer([prompt for prompt, _ in pairs])["input_ids"]
    whole = [prompt + target for prompt, target in pairs]
    whole += [questions.draw_chain(rng) for _ in range(CHAINS)]
    unanswered = [questions.draw_problem(rng, questions.FINETUNING_VERBS, zipf=False) for _ in range(QUESTIONS_ONLY)]
    whole += [problem.question for problem in unanswered]
    starts = [len(prompt) for prompt in prompts] + [1] * (CHAINS + QUESTIONS_ONLY)
    ids = tokenizer(whole)["input_ids"]
    texts = sorted(zip(ids, starts, strict=True), key=lambda text: len(text[0]))
    third = math.ceil(BATCH / 3)
    return [pad_batch(texts[at : at + third], pad=tokenizer.pad_token_id) for at in range(0, BATCH, third)]


def pretrain(
    *, steps: int, learning_rate: float, seed: int, start: Path | None = None
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """AdamW, warm-up, then a cosine down to nothing. From random weights, or from those in the folder `start`."""
    if start is None:
        tokenizer = new_tokenizer()
        model = new_model(tokenizer, seed=seed)
    else:
        model, tokenizer = load(start)
    rng = random.Random(f"pretrain {seed}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * step / steps)),
    )
    model.train()
    with progress("pretraining", unit="steps") as meter:
        for step in range(steps):
            batches = draw_batches(rng, tokenizer)
            bearing = sum(int((labels_BL[:, 1:] != IGNORED).sum()) for _, labels_BL in batches)
            mean = 0.0
            for batch in batches:
                loss = token_losses(model, batch).sum() / bearing
                loss.backward()  # type: ignore[no-untyped-call]
                mean += loss.item()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            meter(step + 1, steps, f"loss {mean:.3f}")
    return model, tokenizer


def report(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Print the accuracies that belong into the log."""
    rng = random.Random("measure")
    for name, verbs in (("pretraining", questions.PRETRAINING_VERBS), ("finetuning", questions.FINETUNING_VERBS)):
        problems = [questions.draw_problem(rng, verbs, zipf=False) for _ in range(400)]
        rows = [{"question": problem.question, "answer": problem.trace} for problem in problems]
        greedy = accuracies(model, tokenizer, rows, samples=1, temperature=0.0)
        sampled = accuracies(model, tokenizer, rows, samples=5)
        losses = mean_losses(model, tokenizer, rows)
        print(
            f"400 problems with {name} verbs: accuracy greedy {sum(greedy) / 400:.3f}, sampled {sum(sampled) / 400:.3f}, "
            f"mean NLL {sum(losses) / 400:.3f}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.pretrain", description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the base; replaced where it exists")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="folder of a base to go on from, with another --seed than its own")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    started, cpu = time.monotonic(), time.process_time()
    model, tokenizer = pretrain(steps=options.steps, learning_rate=options.lr, seed=options.seed, start=options.start)
    print(f"{options.steps} steps in {time.monotonic() - started:.0f} s, {time.process_time() - cpu:.0f} CPU seconds")
    if options.out.exists():
        shutil.rmtree(options.out)
    save(options.out, model, tokenizer)
    digest = hashlib.sha256((options.out / "model.safetensors").read_bytes()).hexdigest()
    print(f"sha256 of {options.out / 'model.safetensors'}: {digest}")
    report(model, tokenizer)


if __name__ == "__main__":
    main()
