"""Claim: "First," or "We know that" before the answer costs more on low examples (Kang et al. 2024, section 5).

Examples that the last checkpoint always solves are compared, those with a low pre-memorization accuracy with those with
a high one: whatever differs then is not the accuracy that was recorded. The baseline is drawn afresh, because the low
ones were chosen for a low draw. The claim holds where the low lose more than the high by more than the error over seeds.

The runs are the first rounds of lab.claim_data_efficiency, made here where they are not there yet.

    python -m lab.claim_robustness --base out/claims/base
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lab.answers import accuracies
from lab.claim_data_efficiency import Floats, Round, first_round, mean_and_error
from lab.model import load
from premem.cli.exits import complain
from premem.errors import PrememError
from premem.method.robustness import Drop, drops
from premem.output.console import say

PREFIXES = (" First,", " We know that")
BANDS = (0.0, 0.5, 0.8, 1.0)
SAMPLES = 10


def drawn(observed: Round, *, seed: int, folder: Path) -> dict[str, Floats]:
    """Fresh accuracies of the last checkpoint on its training examples, by prefix; the empty one is the baseline."""
    kept_at = folder / "perturbed.json"
    kept = json.loads(kept_at.read_text()) if kept_at.exists() else {}
    for number, prefix in enumerate(("", *PREFIXES)):
        if prefix not in kept:
            kept[prefix] = accuracies(
                *load(observed.checkpoint),
                observed.rows,
                samples=SAMPLES,
                seed=10_000 + 10 * seed + number,
                prefix=prefix,
            )
            kept_at.write_text(json.dumps(kept))
    return {prefix: np.array(values) for prefix, values in kept.items()}


def always_solved(observed: Round) -> Floats:
    """The scores of the examples that the last checkpoint always solved when they were made, NaN for the others."""
    score_E: Floats = np.where(observed.accuracy_CE[-1] == 1.0, observed.scores, np.nan)
    return score_E


def contrast(per_seed: Sequence[Sequence[Drop]]) -> tuple[float, float]:
    """How much more the lowest band loses than the highest, mean over seeds, and its standard error."""
    pairs = [(of_seed[0].drop, of_seed[-1].drop) for of_seed in per_seed]
    return mean_and_error([low - high for low, high in pairs if low is not None and high is not None])


def claim(seeds: Sequence[int], *, base: Path, folder: Path) -> str:
    """A table per prefix: what each band loses, all seeds together, and the contrast over seeds."""
    rounds = [first_round(seed, base=base, folder=folder / f"seed-{seed}" / "first") for seed in seeds]
    fresh = []
    for seed, observed in zip(seeds, rounds, strict=True):
        fresh.append(drawn(observed, seed=seed, folder=folder / f"seed-{seed}"))
        say(f"seed {seed}: " + ", ".join(f"{prefix!r} {values.mean():.3f}" for prefix, values in fresh[-1].items()))
    scores = [always_solved(observed) for observed in rounds]
    lines = [
        "| prefix | band of the score | examples | fresh baseline | loss | 90% interval |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for prefix in PREFIXES:
        together = drops(
            np.concatenate(scores),
            np.concatenate([of_seed[""] for of_seed in fresh]),
            np.concatenate([of_seed[prefix] for of_seed in fresh]),
            bands=BANDS,
        )
        lines += [f"| {prefix.strip()} | {_described(band)} |" for band in together]
        per_seed = [
            drops(score_E, of_seed[""], of_seed[prefix], bands=BANDS)
            for score_E, of_seed in zip(scores, fresh, strict=True)
        ]
        difference, error = contrast(per_seed)
        lines.append(f"| {prefix.strip()} | lowest less highest, over seeds | | | {difference:+.3f} | ± {error:.3f} |")
    return "\n".join(lines)


def _described(band: Drop) -> str:
    named = f"{band.low:g} to {band.high:g} | {band.examples}"
    if band.baseline is None or band.drop is None:
        return f"{named} | | | "
    interval = "" if band.interval is None else f"{band.interval[0]:+.3f} to {band.interval[1]:+.3f}"
    return f"{named} | {band.baseline:.3f} | {band.drop:+.3f} | {interval}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.claim_robustness", description=__doc__.split("\n\n")[0])
    parser.add_argument("--base", type=Path, required=True, help="folder of the model to start from")
    parser.add_argument("--folder", type=Path, default=Path("out/claims/data-efficiency"), help="default %(default)s")
    parser.add_argument("--seeds", type=int, default=6, help="how many (default %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        print(claim(range(options.seeds), base=options.base, folder=options.folder))
    except (PrememError, OSError) as error:
        return complain(error)
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
