"""How fast one core grades answers: `gsm8k` beside plain string equality (`authors`), and `math`.

    python benchmarks/grading.py [--answers 200000] [--formulas 500]

The ratio to `authors` on the same answers, measured side by side, is what can be compared between machines. Seconds
are of processor time, except for algebra, which runs in another process: there they are on the clock.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import random
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import date

from premem.grading import get_grader
from premem.grading.pool import grade_all
from premem.wire.bodies import GraderChoice

Pairs = list[tuple[str, str]]
Clock = Callable[[], float]
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=200_000, help="word problems, graded by gsm8k and authors")
    parser.add_argument("--formulas", type=int, default=500, help="formulas, graded by math; half of them need algebra")
    arguments = parser.parse_args()

    print(f"{date.today()}, {_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"math-verify {importlib.metadata.version('math-verify')}, best of {ROUNDS}, one process")
    problems, unmarked = word_problems(arguments.answers, marked=True), word_problems(arguments.answers, marked=False)
    gsm8k, authors = side_by_side(problems, "gsm8k", "authors")
    report("gsm8k", arguments.answers, gsm8k, f"{gsm8k / authors:.2f} times the time of authors")
    report("authors", arguments.answers, authors, "string equality")
    (without,) = side_by_side(unmarked, "gsm8k")
    report("gsm8k, no ####", arguments.answers, without, f"{without / gsm8k:.2f} times the time with ####")
    (numbers,) = side_by_side(formulas(arguments.formulas, algebra=False), "math")
    report("math, numbers", arguments.formulas, numbers, "at once")
    (algebra,) = side_by_side(formulas(arguments.formulas, algebra=True), "math", clock=time.perf_counter)
    report("math, algebra", arguments.formulas, algebra, "with starting its process")


def word_problems(count: int, *, marked: bool) -> Pairs:
    """References with five sampled answers each, about 300 characters long, as GSM8K's are."""
    draw = random.Random(0)
    pairs = []
    for _ in range(count // 5):
        reference = draw.randrange(100_000)
        for _ in range(5):
            answer = reference if draw.random() < 0.5 else draw.randrange(100_000)
            pairs.append((_trace(reference, draw, marked=True), _trace(answer, draw, marked=marked)))
    return pairs


def formulas(count: int, *, algebra: bool) -> Pairs:
    draw = random.Random(0)
    if not algebra:
        return [(rf"\boxed{{{n}}}", rf"so it is $\boxed{{{n + draw.randrange(2)}.0}}$") for n in range(count)]
    return [
        (rf"\boxed{{\frac{{{n}x}}{{2}}+1}}", rf"so it is $\boxed{{1+{n / 2}x+{draw.randrange(2)}}}$")
        for n in range(count)
    ]


def side_by_side(pairs: Pairs, *names: str, clock: Clock = time.process_time) -> list[float]:
    """Seconds per grader, the best of rounds that take turns, so that a busy moment spoils no ratio."""
    rounds = [[_seconds(pairs, name, clock) for name in names] for _ in range(ROUNDS)]
    return [min(column) for column in zip(*rounds, strict=True)]


def report(label: str, count: int, seconds: float, remark: str) -> None:
    print(f"{label:16}{count / seconds:>12,.0f} answers/s {seconds:>8.2f} s for {count:,}   {remark}")


def _seconds(pairs: Pairs, name: str, clock: Clock) -> float:
    choice = GraderChoice(name=name)
    unbounded = get_grader(choice).unbounded
    started = clock()
    verdicts = {grade.verdict for grade in grade_all(_fresh(pairs), choice, 1)}
    seconds = clock() - started
    assert verdicts <= {"right", "wrong"} or unbounded, verdicts
    return seconds


def _fresh(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """New strings, whose hashes are not known yet, as they come from a file."""
    for reference, answer in pairs:
        yield reference[:1] + reference[1:], answer[:1] + answer[1:]


def _trace(number: int, draw: random.Random, *, marked: bool) -> str:
    steps = []
    for _ in range(4):
        a, b = draw.randrange(1000), draw.randrange(1000)
        steps.append(f"She sold {a} clips in April and {b} in May, so that is {a}+{b} = <<{a}+{b}={a + b}>>{a + b}.")
    return "\n".join(steps) + (f"\n#### {number:,}" if marked else f"\nSo it is {number:,} clips.")


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


if __name__ == "__main__":
    main()
