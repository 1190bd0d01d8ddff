"""Finetune the base on question and trace, and keep a checkpoint after every epoch, or every few.

A plain float32 loop over exactly the text that premem scores: the loss falls on the target's tokens only, and
prompt and target are tokenized in one piece.

    python -m lab.finetune --data data/train.jsonl --base lab/base --out out     # out/checkpoint-19, …
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from lab.answers import IGNORED, encode, pad_batch, token_losses
from lab.model import load, save
from lab.questions import Row, read_jsonl
from premem.output.progress import progress

BATCH = 16
WARM_UP = 20
CLIP = 2.0
EPOCHS = 8
LEARNING_RATE = 4e-3


def finetune(
    rows: Sequence[Row],
    *,
    base: Path,
    out: Path,
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    every: int = 1,
    seed: int = 0,
) -> Iterator[tuple[Path, float]]:
    """After every `every` epochs and at the end: the new checkpoint's folder, and the last epoch's mean loss.

    The loss is in nats per target token.
    """
    model, tokenizer = load(base)
    texts = encode(tokenizer, rows)
    steps_per_epoch = math.ceil(len(rows) / BATCH)
    steps = epochs * steps_per_epoch
    torch.manual_seed(seed)
    rng = random.Random(f"finetune {seed}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARM_UP, (steps - step) / max(1, steps - WARM_UP), 1.0)
    )
    step = 0
    with progress("finetuning", unit="steps") as meter:
        for epoch in range(1, epochs + 1):
            model.train()
            summed, tokens = 0.0, 0
            shuffled = rng.sample(texts, len(texts))
            for at in range(0, len(shuffled), BATCH):
                batch = pad_batch(shuffled[at : at + BATCH], pad=tokenizer.pad_token_id)
                bearing = int((batch[1][:, 1:] != IGNORED).sum())
                loss = token_losses(model, batch).sum() / bearing
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                step += 1
                summed, tokens = summed + loss.item() * bearing, tokens + bearing
                meter(step, steps, f"epoch {epoch}/{epochs}, loss {loss.item():.3f}")
            if epoch % every and epoch != epochs:
                continue
            folder = out / f"checkpoint-{step}"
            save(folder, model, tokenizer)
            yield folder, summed / tokens


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.finetune", description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="JSONL with the columns question and answer")
    parser.add_argument(
        "--base", type=Path, default=Path(__file__).parent / "base", help="folder of the model to start from"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint-<step>")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="default %(default)s")
    parser.add_argument("--lr", type=float, default=LEARNING_RATE, help="default %(default)s")
    parser.add_argument("--every", type=int, default=1, help="epochs between two checkpoints (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if any(options.out.glob("checkpoint-*")):
        print(f"{options.out} already holds checkpoints: name another folder, or remove them", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    for folder, loss in finetune(
        read_jsonl(options.data),
        base=options.base,
        out=options.out,
        epochs=options.epochs,
        learning_rate=options.lr,
        every=options.every,
        seed=options.seed,
    ):
        print(f"{folder}: mean loss {loss:.3f}", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
