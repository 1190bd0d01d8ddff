"""Which candidates of a pool are like the low examples: by words or by hidden states, nearest to them or told from the rest.

The low examples use one of six verbs; a candidate counts as found where it uses one of them, too. Shares of the first
100 of 1,000 candidates, over five draws.

python benchmarks/acquisition.py [--checkpoint FOLDER]
"""

from __future__ import annotations

import argparse
import random
import statistics
from pathlib import Path

import numpy as np

from lab.model import prompt_and_target
from lab.questions import FINETUNING_VERBS, training_rows
from premem.curation.acquisition import acquire, tfidf
from premem_worker.engines.requests import EmbedRequest
from premem_worker.engines.transformers.engine import TransformersEngine

TRAINED, POOL, BUDGET, DRAWS = 400, 1000, 100, 5
HOUSE = Path(__file__).parents[1]


def embeddings(engine: TransformersEngine, questions: list[str]) -> np.ndarray:
    requests = [
        EmbedRequest(row, tuple(engine.tokenizer.encode(prompt_and_target(question, "")[0])))
        for row, question in enumerate(questions)
    ]
    vectors = {one.row: one.vector for one in engine.embed(requests, stopped=lambda: False)}
    return np.array([vectors[row] for row in range(len(questions))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=HOUSE / "lab/base")
    folder = parser.parse_args().checkpoint
    engine = TransformersEngine(device="cpu")
    engine.load(folder, dtype="float32")
    found: dict[str, list[float]] = {}
    for draw in range(DRAWS):
        verbs = set(random.Random(draw).sample(FINETUNING_VERBS[6:36], 6))
        rows = training_rows(3 * POOL, seed=draw)
        trained = rows[POOL : POOL + TRAINED]
        low = [row["question"] for row in trained if verbs & set(row["verbs"])]
        rest = [row["question"] for row in trained if not verbs & set(row["verbs"])]
        pool = [row["question"] for row in rows[:POOL]]
        wanted = np.array([bool(verbs & set(row["verbs"])) for row in rows[:POOL]])
        embedded = [embeddings(engine, texts) for texts in (low, rest, pool)]
        mean_D = np.concatenate(embedded).mean(axis=0)
        ways = {"tfidf": tfidf(low, rest, pool), "embedding": [rows_XD - mean_D for rows_XD in embedded]}
        for name, (low_LD, rest_RD, pool_ND) in ways.items():
            for told, beside in ((f"{name}, nearest", None), (f"{name}, told from the rest", rest_RD)):
                taken = [one.position for one in acquire(low_LD, pool_ND, budget=BUDGET, rest_RD=beside)]
                found.setdefault(told, []).append(float(wanted[taken].mean()))
        low_LD, _, pool_ND = embedded
        taken = [one.position for one in acquire(low_LD, pool_ND, budget=BUDGET)]
        found.setdefault("embedding with its mean, nearest", []).append(float(wanted[taken].mean()))
        found.setdefault("random", []).append(float(wanted.mean()))
    print(
        f"checkpoint {folder.name}; {TRAINED} training examples, the first {BUDGET} of {POOL:,} candidates, {DRAWS} draws"
    )
    pairs = zip(found["embedding, nearest"], found["embedding with its mean, nearest"], strict=True)
    added = [off - on for off, on in pairs]
    print(
        f"taking the mean off adds {statistics.mean(added):+.3f} ± {statistics.stdev(added) / DRAWS**0.5:.3f} to nearest"
    )
    for name, shares in found.items():
        print(
            f"{name:33} {statistics.mean(shares):.2f} use one of their verbs ({min(shares):.2f} to {max(shares):.2f})"
        )


if __name__ == "__main__":
    main()
