"""A million examples × 6 checkpoints: scores, intervals and ranking, in seconds and in memory.

python benchmarks/ranking.py [--examples 1000000]
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np

from premem.curation.policies import rank
from premem.method.memorization import memorized, pre_memorization_accuracies, pre_memorization_accuracy
from premem.method.uncertainty import score_intervals
from premem.records import Observation

CHECKPOINTS, SAMPLES, BELOW = 6, 5, 1.1
SCALAR_EXAMPLES = 20_000


def seconds(work: Callable[[], object], *, repeats: int = 3) -> float:
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=1_000_000)
    examples = parser.parse_args().examples
    random = np.random.default_rng(0)
    correct_CE = random.binomial(SAMPLES, random.beta(0.5, 0.8, examples), (CHECKPOINTS, examples))
    accuracy_CE = correct_CE / SAMPLES
    perplexity_CE = 1 + random.gamma(2.0, 0.5, (CHECKPOINTS, examples)) / np.arange(1, CHECKPOINTS + 1)[:, None] ** 2
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def everything() -> None:
        score_CE = pre_memorization_accuracies(accuracy_CE, perplexity_CE, memorized_below=BELOW)
        score_intervals(score_CE[-1], correct_CE, memorized(perplexity_CE, memorized_below=BELOW), samples=SAMPLES)
        rank(score_CE[-1], accuracy_CE, perplexity_CE)

    def one_by_one() -> None:
        for e in range(SCALAR_EXAMPLES):
            history = [
                Observation(int(correct_CE[c, e]), SAMPLES, float(perplexity_CE[c, e])) for c in range(CHECKPOINTS)
            ]
            pre_memorization_accuracy(history, memorized_below=BELOW)

    whole = seconds(everything)
    arrays = seconds(lambda: pre_memorization_accuracies(accuracy_CE, perplexity_CE, memorized_below=BELOW))
    scalar = seconds(one_by_one) * examples / SCALAR_EXAMPLES
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    print(
        f"{examples:,} examples x {CHECKPOINTS} checkpoints, scored, with intervals, ranked: {whole:.2f} s (median of 3)"
    )
    print(f"peak memory {after / 1024:,.0f} MiB, of which the input {before / 1024:,.0f} MiB")
    print(f"scores over arrays: {scalar / arrays:,.0f} times as fast as the form for one example")


if __name__ == "__main__":
    main()
