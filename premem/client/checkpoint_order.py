"""The order in which a run's checkpoints were saved, read from how their folders are named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from premem.errors import InputError

NUMBER = re.compile(
    r"(?P<word>[a-z]+(?:[_-][a-z]+)*)?[-_=. ]*(?P<number>\d+(?:\.\d+)?)(?P<scale>[kmb](?![a-z]))?"
    r"(?:[-_ ]?(?P<unit>epochs?|ep|steps?|iters?|iterations?|updates?|tokens?|samples?)(?![a-z]|[-_=. ]*\d))?",
    re.IGNORECASE,
)
"""A number, with the word in front of it or the unit behind it."""
PROGRESS = {
    "stage": 0,
    "phase": 0,
    "epoch": 1,
    "ep": 1,
    "checkpoint": 2,
    "ckpt": 2,
    "step": 2,
    "globalstep": 2,
    "iter": 2,
    "iteration": 2,
    "update": 2,
    "token": 3,
    "sample": 3,
}
"""Words that count how far training is, and which of them outranks which: step 5 of epoch 2 follows step 90 of epoch 1."""
OTHER_RUNS = frozenset({"seed", "fold", "run", "trial", "lr", "rank", "split"})
"""Words whose numbers tell runs apart, and say nothing of how far one is."""
SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9}
LAST = frozenset({"final", "last", "latest", "end"})
BEST = "best"
KEEP = "give all of them in the order in which they were saved, with --keep-order (in Python: as Checkpoint objects)"


@dataclass(frozen=True, slots=True)
class _Number:
    word: str
    value: float
    start: int
    """Where in the path the digits begin."""

    @property
    def progress(self) -> int | None:
        """Its place in PROGRESS, by the last word of `global_step`; None: it counts something else."""
        word = re.split(r"[_-]", self.word)[-1]
        return PROGRESS.get(word, PROGRESS.get(word.removesuffix("s")))


def in_order_of_steps(paths: Sequence[str]) -> list[str]:
    """Sorted by how far training was: a shell puts checkpoint-112 before checkpoint-28.

    The number may stand in any part of the path, with anything behind it (`checkpoint-500/merged`); epochs outrank steps.
    What is called final or last comes behind all numbers, and so does the output folder beside its own checkpoints, into
    which `trainer.save_model()` writes at the end.

    Raises InputError where no order can be read, and for a `best`, which is a copy of one of the others.
    """
    if len(paths) < 2:
        return list(paths)
    whole = [str(PurePath(path)) for path in paths]
    last = [_ends_the_run(place, whole) for place in range(len(whole))]
    numbered = [place for place in range(len(whole)) if not last[place]]
    behind = [place for place in range(len(whole)) if last[place]]
    if len(behind) > 1:
        raise InputError(f"{paths[behind[0]]} and {paths[behind[1]]} may each be the last checkpoint: {KEEP}")
    keys = _progress([whole[place] for place in numbered])
    count = Counter(keys)
    twice = [paths[place] for place, key in zip(numbered, keys, strict=True) if count[key] > 1]
    if twice:
        raise InputError(f"{twice[0]} and {twice[1]} are of the same step: name one of them, or {KEEP}")
    ordered = [place for _, place in sorted(zip(keys, numbered, strict=True))]
    return [paths[place] for place in [*ordered, *behind]]


def order_said(given: Sequence[str], ordered: Sequence[str]) -> str | None:
    """One line for people; None where nothing changed."""
    if list(given) == list(ordered):
        return None
    return f"checkpoints in the order of their steps: {', '.join(unique_names(ordered))}"


def unique_names(paths: Sequence[str]) -> list[str]:
    """The last part of each path, or as many parts as make it unique."""
    parts = [PurePath(path).parts for path in paths]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return ["/".join(part) for part in parts]


def _ends_the_run(place: int, paths: Sequence[str]) -> bool:
    """Whether this one comes behind those with numbers. Raises InputError for one that nobody can place."""
    path = PurePath(paths[place])
    others = [PurePath(other) for number, other in enumerate(paths) if number != place]
    if all(path in other.parents for other in others):
        return True
    shared = _shared_parts([path, *others])
    own = path.parts[shared:]
    if any(number.progress is not None for number in _numbers("/".join(own))):
        return False
    words = [set(re.split(r"[^a-z]+", part.lower())) for part in own]
    if any(BEST in found for found in words):
        raise InputError(
            f"{paths[place]} is a copy of one of the other checkpoints, and its name does not say of which: leave it out, or "
            f"{KEEP}"
        )
    beside = [other.parts[shared] for other in others if len(other.parts) > shared]
    return bool(own and LAST & words[0]) and all(re.search(r"\d", name) or name == own[0] for name in beside)


def _shared_parts(paths: Sequence[PurePath]) -> int:
    """How many leading folders they have in common."""
    count = 0
    for level in zip(*(path.parts for path in paths), strict=False):
        if len(set(level)) > 1:
            break
        count += 1
    return count


def _progress(paths: Sequence[str]) -> list[tuple[float, ...]]:
    """How far each is. Raises InputError where the names do not say."""
    found = [_numbers(path) for path in paths]
    if len(paths) == 1 and found[0]:
        return [()]
    counted = [{one.word: one for one in numbers if one.progress is not None} for numbers in found]
    words = sorted({word for one in counted for word in one}, key=lambda word: _rank(word, counted))
    varying = [word for word in words if len({one[word].value if word in one else None for one in counted}) > 1]
    if varying:
        return _by_words(paths, counted, varying)
    return _by_only_number(paths, found)


def _rank(word: str, counted: Sequence[dict[str, _Number]]) -> tuple[int, str]:
    progress = next(one[word].progress for one in counted if word in one)
    return (0 if progress is None else progress, word)


def _by_words(
    paths: Sequence[str], counted: Sequence[dict[str, _Number]], varying: Sequence[str]
) -> list[tuple[float, ...]]:
    for path, numbers in zip(paths, counted, strict=True):
        if missing := [word for word in varying if word not in numbers]:
            named = next(other for other, one in zip(paths, counted, strict=True) if missing[0] in one)
            raise InputError(f"{path} has no number of {missing[0]!r}, as {named} has: {KEEP}")
    heads = [path[: min(one[word].start for word in varying)] for path, one in zip(paths, counted, strict=True)]
    _check_one_run(paths, heads)
    return [tuple(one[word].value for word in varying) for one in counted]


def _by_only_number(paths: Sequence[str], found: Sequence[Sequence[_Number]]) -> list[tuple[float, ...]]:
    """By the one number that differs where all else is the same: model-1, model-2."""
    alike = len({len(numbers) for numbers in found}) == 1
    levels = zip(*found, strict=True) if alike else ()
    differing = [level for level in levels if len({number.value for number in level}) > 1]
    if len(differing) != 1 or differing[0][0].word in OTHER_RUNS:
        raise InputError(f"no order can be read from names like {' and '.join(paths[:2])}: {KEEP}")
    _check_one_run(paths, [path[: number.start] for path, number in zip(paths, differing[0], strict=True)])
    return [(number.value,) for number in differing[0]]


def _check_one_run(paths: Sequence[str], heads: Sequence[str]) -> None:
    """Raises InputError where something else than a number tells them apart before it: another folder, another word."""
    for path, head in zip(paths, heads, strict=True):
        if head != heads[0]:
            raise InputError(f"{paths[0]} and {path} do not look like one run's: {KEEP}")


def _numbers(path: str) -> list[_Number]:
    return [
        _Number(
            word=(match["word"] or (match["unit"] or "").removesuffix("s")).lower(),
            value=float(match["number"]) * SCALES[(match["scale"] or "").lower()],
            start=match.start("number"),
        )
        for match in NUMBER.finditer(path)
    ]
