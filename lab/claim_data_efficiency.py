"""Claim: new examples like the low ones teach more than as many drawn at random (Kang et al. 2024, section 6).

A first round is trained on 150 examples in which every verb occurs; its checkpoints give each example a
pre-memorization accuracy. Then 150 examples are added, in five ways, and the base is finetuned anew on all 300:

    i.i.d.    fresh problems, drawn as the test problems are
    random    twins of examples taken at random, as many examples as are low
    longest   twins of as many examples with the longest traces
    low       twins of the examples with a pre-memorization accuracy under 0.5
    oracle    twins of as many examples, those on whose own twins the first round does worst

All are tested greedily on the same fresh problems. The claim holds where `low` beats `i.i.d.` and `random` by more than
the error over seeds. At an earlier base slips of arithmetic on common verbs drowned everything, so the base is trained
further first:

    python -m lab.pretrain --start lab/base --steps 1200 --lr 2e-3 --seed 1 --out out/claims/base
    python -m lab.claim_data_efficiency --base out/claims/base

Interrupted, it goes on where it was: out/claims/data-efficiency keeps every finished round and arm.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lab.answers import accuracies, mean_losses
from lab.demo import MEMORIZED_BELOW
from lab.finetune import finetune
from lab.model import load
from lab.questions import FINETUNING_VERBS, Row, training_rows, twin_rows
from premem.cli.exits import complain
from premem.errors import PrememError
from premem.method.memorization import pre_memorization_accuracies
from premem.output.console import say

Floats = NDArray[np.float64]

EXAMPLES = 150
ADDED = 150
EPOCHS = 12
EVERY = 2
LEARNING_RATE = 4e-3
LOW = 0.5
TEST = 800
ORACLE_TWINS = 4
ARMS = ("i.i.d.", "random", "longest", "low", "oracle")


@dataclass(frozen=True, slots=True)
class Round:
    """A finetuning run as it was observed: C checkpoints, E examples."""

    rows: list[Row]
    checkpoint: Path
    """The last one."""
    accuracy_CE: Floats
    perplexity_CE: Floats

    @property
    def scores(self) -> Floats:
        """E pre-memorization accuracies, as they stand at the last checkpoint."""
        scores_CE = pre_memorization_accuracies(self.accuracy_CE, self.perplexity_CE, memorized_below=MEMORIZED_BELOW)
        last_E: Floats = scores_CE[-1]
        return last_E


def covering_rows(size: int, *, seed: int) -> list[Row]:
    """Drawn by Zipf's law, but every verb occurs: those that bring a new verb go first, whichever come next follow."""
    drawn = training_rows(40 * len(FINETUNING_VERBS), seed=seed)
    met: set[str] = set()
    bringing: list[Row] = []
    others: list[Row] = []
    for row in drawn:
        (others if met.issuperset(row["verbs"]) else bringing).append(row)
        met.update(row["verbs"])
    if len(met) < len(FINETUNING_VERBS) or len(bringing) > size:
        raise PrememError(f"{size} examples of seed {seed} do not hold every verb")
    return [*bringing, *others][:size]


def first_round(seed: int, *, base: Path, folder: Path) -> Round:
    """Trained and observed, or read back where that was done before."""
    rows = covering_rows(EXAMPLES, seed=seed)
    finished = folder / "observed.json"
    if not finished.exists():
        shutil.rmtree(folder, ignore_errors=True)
        accuracy, perplexity, names = [], [], []
        run = finetune(rows, base=base, out=folder, epochs=EPOCHS, learning_rate=LEARNING_RATE, every=EVERY, seed=seed)
        for checkpoint, _ in run:
            loaded = load(checkpoint)
            names.append(checkpoint.name)
            accuracy.append(accuracies(*loaded, rows, seed=seed))
            perplexity.append(np.exp(mean_losses(*loaded, rows)).tolist())
        finished.write_text(json.dumps({"names": names, "accuracy": accuracy, "perplexity": perplexity}))
    kept = json.loads(finished.read_text())
    return Round(rows, folder / kept["names"][-1], np.array(kept["accuracy"]), np.array(kept["perplexity"]))


def low_first(observed: Round) -> list[Row]:
    """The low examples, the lowest first."""
    score_E = observed.scores
    return [observed.rows[at] for at in np.argsort(score_E, kind="stable") if score_E[at] < LOW]


def twins_of(rows: Sequence[Row], count: int, *, seed: int) -> list[Row]:
    """`count` twins, dealt out in turns."""
    twins = math.ceil(count / len(rows))
    dealt = twin_rows(rows, twins=twins, seed=seed)
    return [dealt[row * twins + turn] for turn in range(twins) for row in range(len(rows))][:count]


def failing_first(observed: Round, *, seed: int) -> list[Row]:
    """By the greedy accuracy of the last checkpoint on twins that nobody trains on."""
    right = accuracies(
        *load(observed.checkpoint),
        twin_rows(observed.rows, twins=ORACLE_TWINS, seed=seed + 5000),
        samples=1,
        temperature=0.0,
    )
    order = np.argsort(np.reshape(right, (-1, ORACLE_TWINS)).mean(axis=1), kind="stable")
    return [observed.rows[at] for at in order]


def added(arm: str, observed: Round, *, seed: int) -> list[Row]:
    """The examples that an arm adds to the first round's."""
    size = max(1, len(low_first(observed)))
    chosen: dict[str, Callable[[], Sequence[Row]]] = {
        "random": lambda: random.Random(f"random {seed}").sample(observed.rows, size),
        "longest": lambda: sorted(observed.rows, key=lambda row: -len(row["answer"]))[:size],
        "low": lambda: low_first(observed) or observed.rows[:1],
        "oracle": lambda: failing_first(observed, seed=seed)[:size],
    }
    if arm == "i.i.d.":
        return training_rows(ADDED, seed=seed + 1000)
    return twins_of(chosen[arm](), ADDED, seed=seed + 2000)


def accuracy_with(arm: str, observed: Round, *, seed: int, base: Path, folder: Path) -> float:
    """Greedy accuracy on fresh problems, of the base finetuned on the first round's examples and those added."""
    shutil.rmtree(folder, ignore_errors=True)
    rows = [*observed.rows, *added(arm, observed, seed=seed)]
    *_, (last, _) = finetune(
        rows, base=base, out=folder, epochs=EPOCHS, learning_rate=LEARNING_RATE, every=EPOCHS, seed=seed
    )
    right = accuracies(*load(last), training_rows(TEST, seed=seed + 3000), samples=1, temperature=0.0)
    return sum(right) / len(right)


def claim(seeds: Sequence[int], *, base: Path, folder: Path) -> dict[str, list[float]]:
    """Per arm, and for the first round alone, an accuracy per seed."""
    by_arm: dict[str, list[float]] = {name: [] for name in ("first round", *ARMS)}
    started = time.monotonic()
    for seed in seeds:
        home = folder / f"seed-{seed}"
        observed = first_round(seed, base=base, folder=home / "first")
        kept_at = home / "accuracies.json"
        kept: dict[str, float] = json.loads(kept_at.read_text()) if kept_at.exists() else {}
        test = training_rows(TEST, seed=seed + 3000)
        if "first round" not in kept:
            right = accuracies(*load(observed.checkpoint), test, samples=1, temperature=0.0)
            kept["first round"] = sum(right) / len(right)
        for arm in ARMS:
            if arm not in kept:
                kept[arm] = accuracy_with(arm, observed, seed=seed, base=base, folder=home / arm.strip("."))
                kept_at.write_text(json.dumps(kept))
        for name, accuracy in kept.items():
            by_arm[name].append(accuracy)
        minutes = (time.monotonic() - started) / 60
        say(f"seed {seed}, after {minutes:.1f} min, {len(low_first(observed))} low: {kept}")
    return by_arm


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error; NaN for a single value."""
    array = np.asarray(values)
    return float(array.mean()), float(array.std(ddof=1) / np.sqrt(len(array))) if len(array) > 1 else float("nan")


def table(by_arm: dict[str, list[float]]) -> str:
    lines = ["| arm | accuracy | ± | against i.i.d. | ± |", "| --- | --- | --- | --- | --- |"]
    for name, values in by_arm.items():
        difference = [one - other for one, other in zip(values, by_arm["i.i.d."], strict=True)]
        accuracy, error = mean_and_error(values)
        gain, gain_error = mean_and_error(difference)
        lines.append(f"| {name} | {accuracy:.3f} | {error:.3f} | {gain:+.3f} | {gain_error:.3f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.claim_data_efficiency", description=__doc__.split("\n\n")[0])
    parser.add_argument("--base", type=Path, required=True, help="folder of the model to start from")
    parser.add_argument("--folder", type=Path, default=Path("out/claims/data-efficiency"), help="default %(default)s")
    parser.add_argument("--seeds", type=int, default=6, help="how many (default %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        print(table(claim(range(options.seeds), base=options.base, folder=options.folder)))
    except (PrememError, OSError) as error:
        return complain(error)
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
