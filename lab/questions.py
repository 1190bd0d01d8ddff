"""Word problems whose skills are known: each invented verb stands for one hidden function of the count.

A problem has a start count, one to three events and sometimes a sentence that does not matter. Its trace works
step by step, in words drawn at random, so that the wording can only be known by heart (about 0.4 nats per
token) while the numbers can be known by understanding. Verbs follow Zipf's law: the first are seen often
enough to be understood, the last only often enough to be memorized.

    python -m lab.questions --train 300 --seed 0 --out data     # data/train.jsonl and data/test.jsonl
"""

from __future__ import annotations

import argparse
import json
import operator
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NUMBERS = range(31)
"""Start counts, counts in between and answers."""
AMOUNTS = range(1, 10)
"""What an event says beside its verb."""

Step = tuple[str, int]
"""Sign and operand, as they stand in the trace."""
FUNCTIONS: dict[str, Callable[[int], Step]] = {
    "+n": lambda n: ("+", n),
    "-n": lambda n: ("-", n),
    "+2n": lambda n: ("+", 2 * n),
    "-2n": lambda n: ("-", 2 * n),
    "+(n+1)": lambda n: ("+", n + 1),
    "-(n+1)": lambda n: ("-", n + 1),
    "+(n-1)": lambda n: ("+", n - 1),
    "-(n-1)": lambda n: ("-", n - 1),
    "*2": lambda n: ("*", 2),
    "/2": lambda n: ("/", 2),
    "+3": lambda n: ("+", 3),
    "-3": lambda n: ("-", 3),
}
SIGNS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,
}

_ONSETS = ("bl", "dr", "fl", "gr", "kl", "pr", "sm", "sn", "tr", "v", "qu", "z")
_RIMES = ("orfs", "emps", "ulks", "olps", "ivs", "uds", "ebs", "onts")
_VERBS = random.Random(96).sample([onset + rime for onset in _ONSETS for rime in _RIMES], 96)
FINETUNING_VERBS = tuple(_VERBS[:48])
"""Most frequent first."""
PRETRAINING_VERBS = tuple(_VERBS[48:])
HIDDEN: dict[str, str] = {
    verb: function
    for verbs, seed in ((FINETUNING_VERBS, 1), (PRETRAINING_VERBS, 2))
    for verb, function in zip(verbs, random.Random(seed).sample(list(FUNCTIONS) * 4, 48), strict=True)
}
"""Which function each verb stands for."""

NAMES = ("Tom", "Ann", "Ben", "Eva", "Sam", "Mia", "Leo", "Ida", "Max", "Kim", "Zoe", "Ray")
THINGS = ("coins", "pens", "eggs", "cups", "hats", "cards", "nuts", "keys", "books")
NOISE = (
    "Here it rains.",
    "A dog barks.",
    "It is late.",
    "There are {number} {other} here.",
    "{friend} has {number} {other}.",
)
LINKS = ("", "", "Then ", "Next ", "Later ")

# Chosen so that a step has as much chance per token as the rest: a longer trace is no likelier and no less likely.
OPENERS = ("First", "Now", "Well", "Look", "So", "Okay", "Also", "Good")
FILLERS = ("now", "then", "again", "there", "here", "today", "yes", "friend")
CONNECTIVES = ("Then", "Next", "Later", "So", "Thus")
TAILS = ("now", "left", "here", "again", "today")
ENDINGS = (
    "That is all",
    "It is so",
    "All is well",
    "We see it",
    "That was it",
    "Now we see",
    "There it is",
    "We are there",
)


@dataclass(frozen=True, slots=True)
class Problem:
    question: str
    trace: str
    answer: int
    verbs: tuple[str, ...]
    numbers: tuple[int, ...]
    """The start count, then what each event says."""


def counts(numbers: Sequence[int], verbs: Sequence[str]) -> list[int] | None:
    """The count at the start and after each event; None where one is outside of NUMBERS or no whole number."""
    reached = [numbers[0]]
    for verb, amount in zip(verbs, numbers[1:], strict=True):
        sign, operand = FUNCTIONS[HIDDEN[verb]](amount)
        now = reached[-1]
        if sign == "/" and now % operand:
            return None
        now = SIGNS[sign](now, operand)
        if now not in NUMBERS:
            return None
        reached.append(now)
    return reached


def draw_numbers(
    rng: random.Random, verbs: Sequence[str], *, other_than: Sequence[int] = (), tries: int = 100_000
) -> tuple[int, ...] | None:
    """Numbers under which every count stays in range; none of them where `other_than` has it.

    None where no try found any: half of (the double less 3) is never whole.
    """
    for _ in range(tries):
        numbers = (rng.choice(NUMBERS), *(rng.choice(AMOUNTS) for _ in verbs))
        if other_than and any(new == old for new, old in zip(numbers, other_than, strict=True)):
            continue
        if counts(numbers, verbs) is not None:
            return numbers
    return None


def tell(rng: random.Random, verbs: Sequence[str], numbers: Sequence[int], *, not_name: str = "") -> Problem:
    """Put a problem and its trace into words."""
    name = rng.choice([name for name in NAMES if name != not_name])
    thing, other = rng.sample(THINGS, 2)
    sentences = [f"{name} has {numbers[0]} {thing}."]
    for verb, amount in zip(verbs, numbers[1:], strict=True):
        sentences.append(f"{rng.choice(LINKS)}{name} {verb} {amount} {thing}.")
        if rng.random() < 0.3:
            friend = rng.choice([friend for friend in NAMES if friend != name])
            sentences.append(rng.choice(NOISE).format(number=rng.choice(NUMBERS), other=other, friend=friend))
    sentences.append(f"How many {thing} does {name} have?")

    reached = counts(numbers, verbs)
    if reached is None:
        raise ValueError(f"{list(verbs)} cannot be told with {list(numbers)}: a count leaves 0 to 30")
    steps = [f"{rng.choice(OPENERS)} {rng.choice(FILLERS)}, {reached[0]} {thing}."]
    for before, after, verb, amount in zip(reached, reached[1:], verbs, numbers[1:], strict=False):
        sign, operand = FUNCTIONS[HIDDEN[verb]](amount)
        steps.append(f"{rng.choice(CONNECTIVES)} {before} {sign} {operand} = {after} {rng.choice(TAILS)}.")
    trace = f"{' '.join(steps)} {rng.choice(ENDINGS)}.\n#### {reached[-1]}"
    return Problem(" ".join(sentences), trace, reached[-1], tuple(verbs), tuple(numbers))


def draw_verbs(rng: random.Random, verbs: Sequence[str], *, zipf: bool) -> tuple[str, ...]:
    """One to three verbs, by Zipf's law in their order or all alike."""
    events = rng.choices((1, 2, 3), weights=(0.45, 0.40, 0.15))[0]
    weights = [1 / rank for rank in range(1, len(verbs) + 1)] if zipf else None
    return tuple(rng.choices(verbs, weights=weights, k=events))


def draw_problem(rng: random.Random, verbs: Sequence[str], *, zipf: bool) -> Problem:
    while True:
        drawn = draw_verbs(rng, verbs, zipf=zipf)
        numbers = draw_numbers(rng, drawn, tries=500)
        if numbers is not None:
            return tell(rng, drawn, numbers)


def draw_chain(rng: random.Random) -> str:
    """Three to six sums without a story: `7 + 4 = 11. 11 * 2 = 22. …`"""
    now = rng.choice(NUMBERS)
    sums: list[str] = []
    for _ in range(rng.randint(3, 6)):
        possible = [("+", operand, now + operand) for operand in range(19) if now + operand in NUMBERS]
        possible += [("-", operand, now - operand) for operand in range(19) if now - operand in NUMBERS]
        doubled = [("*", 2, now * 2)] * (now * 2 in NUMBERS) + [("/", 2, now // 2)] * (now % 2 == 0)
        sign, operand, after = rng.choice(doubled if doubled and rng.random() < 0.2 else possible)
        sums.append(f"{now} {sign} {operand} = {after}.")
        now = after
    return " " + " ".join(sums)


Row = dict[str, Any]


def training_rows(size: int, *, seed: int) -> list[Row]:
    """`size` problems with the finetuning verbs, no two with the same question."""
    rng = random.Random(f"train {seed}")
    rows: list[Row] = []
    questions: set[str] = set()
    while len(rows) < size:
        problem = draw_problem(rng, FINETUNING_VERBS, zipf=True)
        if problem.question not in questions:
            questions.add(problem.question)
            rows.append(_row(f"train-{len(rows):04d}", problem))
    return rows


def twin_rows(training: Iterable[Row], *, twins: int, seed: int) -> list[Row]:
    """`twins` fresh problems for each training row: the same verbs in the same order, everything else new."""
    rng = random.Random(f"twins {seed}")
    rows: list[Row] = []
    for row in training:
        name = row["question"].split(" ", 1)[0]
        drawn: set[tuple[int, ...]] = set()
        for twin in range(twins):
            numbers = draw_numbers(rng, row["verbs"], other_than=row["numbers"])
            while numbers in drawn:
                numbers = draw_numbers(rng, row["verbs"], other_than=row["numbers"])
            if numbers is None:
                raise ValueError(f"{row['id']}: no other numbers fit {row['verbs']}")
            drawn.add(numbers)
            problem = tell(rng, row["verbs"], numbers, not_name=name)
            rows.append({**_row(f"{row['id']}-twin-{twin}", problem), "twin_of": row["id"]})
    return rows


def _row(name: str, problem: Problem) -> Row:
    return {
        "id": name,
        "question": problem.question,
        "answer": problem.trace,
        "verbs": list(problem.verbs),
        "numbers": list(problem.numbers),
    }


def write_jsonl(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_jsonl(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.questions", description=__doc__.split("\n\n")[0])
    parser.add_argument("--train", type=int, default=300, help="training examples (default %(default)s)")
    parser.add_argument("--twins", type=int, default=2, help="test problems per training example (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for train.jsonl and test.jsonl")
    options = parser.parse_args(arguments)
    training = training_rows(options.train, seed=options.seed)
    test = twin_rows(training, twins=options.twins, seed=options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    write_jsonl(options.out / "train.jsonl", training)
    write_jsonl(options.out / "test.jsonl", test)
    print(f"{options.out / 'train.jsonl'}: {len(training)} examples; {options.out / 'test.jsonl'}: {len(test)} twins")


if __name__ == "__main__":
    main()
