"""What a plan leaves undrawn of the authors' recorded runs: shares of pairs of example and checkpoint, and of samples.

    python -m benchmarks.replay [../shared/data/recorded-runs]

Every run of three checkpoints or more, every example, at the paper's threshold for GSM8K. The recordings tell how many
of an example's answers were right, not in which order they came: the order is drawn, by a seed. Each replayed score is
compared with the one that all samples give.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from premem.forecasting.recorded_runs import read_runs
from premem.forecasting.runs import ScoredRun
from premem.method.memorization import pre_memorization_accuracies
from premem.method.planning import replay, settled_score

MEMORIZED_BELOW = 1.1055
BELOW = 0.5


@dataclass(slots=True)
class Shares:
    pairs: int = 0
    drawn_pairs: int = 0
    samples: int = 0
    drawn: int = 0
    drawn_below: int = 0
    """To tell only whether the score is under BELOW."""

    def __str__(self) -> str:
        parts = (self.drawn_pairs / self.pairs, self.drawn / self.samples, self.drawn_below / self.samples)
        return "".join(f"{part:>12.1%}" for part in parts)

    def add(self, other: Shares) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def replayed(run: ScoredRun, chance: np.random.Generator) -> Shares:
    correct_CE = np.rint(run.accuracy_CE * run.samples).astype(int)
    outcome_CES = chance.permuted(np.arange(run.samples) < correct_CE[:, :, None], axis=2)
    memorized_CE = run.perplexity_CE < MEMORIZED_BELOW
    score_E = pre_memorization_accuracies(run.accuracy_CE, run.perplexity_CE, memorized_below=MEMORIZED_BELOW)[-1]
    found = Shares(pairs=correct_CE.size, samples=correct_CE.size * run.samples)
    for example, score in enumerate(score_E):
        memorized_C, outcome_CS = memorized_CE[:, example].tolist(), outcome_CES[:, example].tolist()
        correct_C, drawn_C = replay(memorized_C, outcome_CS)
        if not np.isclose(settled_score(memorized_C, correct_C, drawn_C, samples=run.samples), score, atol=1e-12):
            raise AssertionError(f"{run.name}: example {example} has another score")
        found.drawn_pairs += sum(map(bool, drawn_C))
        found.drawn += sum(drawn_C)
        found.drawn_below += sum(replay(memorized_C, outcome_CS, below=BELOW)[1])
    return found


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data/recorded-runs")
    if not folder.is_dir():
        print(f"{folder} is not here: name the folder of the recorded runs; nothing was measured")
        return
    print(f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, seed 0; every score is unchanged")
    print(f"{'run':<46}{'pairs':>12}{'samples':>12}{f'below {BELOW}':>12}")
    chance = np.random.default_rng(0)
    total = Shares()
    for run in read_runs(folder):
        if len(run.checkpoints) >= 3:
            shares = replayed(run, chance)
            print(f"{run.name:<46}{shares}")
            total.add(shares)
    print(f"{'all, weighted by pairs':<46}{total}")


if __name__ == "__main__":
    main()
