"""The texts that are scored behind one prompt: the pair itself, and others that show where probability goes.

Ren and Sutherland, arXiv 2407.10490, section 4, call them response types. What is drawn here depends on the job, the part
and the row alone, so that a job that is resumed, and every checkpoint, asks the same texts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

import numpy as np

from premem.errors import InputError
from premem.extras import brought_by
from premem.method.spans import Span

Part = Literal["train", "holdout"]
How = Literal["own", "random", "nearest", "shuffled"]
ALWAYS = ("chosen", "rejected")
DRAWN = ("irr_train", "irr_test", "random_permute")
RANDOM_PARTNERS = NEAREST_PARTNERS = 2
NEAR_DUPLICATE = 0.9
"""Prompts that are this similar ask the same, so that the one's answer is not irrelevant to the other."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One preference: a prompt, and the answers that are preferred and not."""

    row: int
    """In its data set."""
    prompt: str
    chosen: str
    rejected: str
    columns: Mapping[str, str] = field(default_factory=dict)
    """Further answers, paraphrases for one; each is a family of its column's name."""


@dataclass(frozen=True, slots=True)
class Text:
    """One text to be scored behind a pair's prompt."""

    family: str
    draw: int
    """Counts the texts of a family from 0."""
    text: str
    how: How
    source_row: int
    """The row whose answer it is made of: of the trained part for irr_train, of the held-out part for irr_test."""


@dataclass(frozen=True, slots=True)
class SpanRule:
    """Which tokens of a prompt with its answer are scored: those that TRL trains on.

    TRL cuts by position, behind as many ids as the prompt alone has, and trains on the end token.
    """

    end: tuple[int, ...] = ()
    """What training put behind an answer: the end token, or the end of a turn. Empty where it put nothing."""

    def span(self, prompt: Sequence[int], whole: Sequence[int]) -> Span:
        """`prompt`: ids of the prompt alone. `whole`: ids of prompt and answer in one. Both with the same special tokens
        in front. The span is marked as shifted where the prompt's ids are no prefix of the whole."""
        ends = tuple(whole[len(whole) - len(self.end) :]) == self.end
        tokens = tuple(whole) if ends else (*whole, *self.end)
        return Span(
            tokens=tokens, target_start=max(1, len(prompt)), shifted=tuple(whole[: len(prompt)]) != tuple(prompt)
        )


def with_white_space_of(chosen: str, text: str) -> str:
    """`text` with the white space that `chosen` begins with: a leading space is a token that families must not differ in."""
    return chosen[: len(chosen) - len(chosen.lstrip())] + text.lstrip()


class Families:
    """Draws the families of each pair of a job."""

    def __init__(
        self, trained: Sequence[Pair], holdout: Sequence[Pair], *, job: str, families: Collection[str] | None = None
    ) -> None:
        """`families`: which beside chosen and rejected, columns included; None: all. Raises InputError where a column has
        the name of a family that is drawn: one of the two must be left out."""
        self._parts: dict[Part, Sequence[Pair]] = {"train": trained, "holdout": holdout}
        self._job = job
        columns = {name for pair in (*trained, *holdout) for name in pair.columns}
        self._wanted = {*DRAWN, *columns} if families is None else set(families)
        if unknown := self._wanted - {*ALWAYS, *DRAWN, *columns}:
            raise InputError(
                f"there is no family {sorted(unknown)[0]!r}: choose among {', '.join((*DRAWN, *sorted(columns)))}"
            )
        if twice := columns & self._wanted & {*ALWAYS, *DRAWN}:
            raise InputError(
                f"the column {sorted(twice)[0]!r} has the name of a family that is made here: rename it or leave it out"
            )
        self._tfidf: dict[Part, Any] | None = None

    def texts(self, part: Part, place: int) -> list[Text]:
        """Every text to be scored behind the prompt at this place of the part; of each family one at least, where there
        is any to draw.

        `irr_train`: two chosen answers of other trained prompts drawn at random, and those of the two prompts nearest by
        TF-IDF. `irr_test`: a chosen answer of a held-out prompt. Never of a near-duplicate prompt, nor the same text.
        `random_permute`: the words of chosen, shuffled; none where no other order exists. All begin with the white space
        of chosen.
        """
        pair = self._parts[part][place]
        found = [Text("chosen", 0, pair.chosen, "own", pair.row), Text("rejected", 0, pair.rejected, "own", pair.row)]
        if "irr_train" in self._wanted:
            nearest = self._partners(part, place, "train", self._by_nearness(part, place), NEAREST_PARTNERS, ())
            at_random = self._shuffled_places(part, place, "train")
            drawn = self._partners(part, place, "train", at_random, RANDOM_PARTNERS, nearest)
            found += self._of_others("irr_train", "train", drawn, "random", 0)
            found += self._of_others("irr_train", "train", nearest, "nearest", len(drawn))
        if "irr_test" in self._wanted:
            at_random = self._shuffled_places(part, place, "holdout")
            found += self._of_others(
                "irr_test", "holdout", self._partners(part, place, "holdout", at_random, 1, ()), "random", 0
            )
        if "random_permute" in self._wanted and (shuffled := self._permuted(part, pair)) is not None:
            found.append(Text("random_permute", 0, shuffled, "shuffled", pair.row))
        found += [
            Text(name, 0, text, "own", pair.row)
            for name, text in pair.columns.items()
            if name in self._wanted and text.strip()
        ]
        return [
            Text(one.family, one.draw, with_white_space_of(pair.chosen, one.text), one.how, one.source_row)
            for one in found
        ]

    def _of_others(self, family: str, part: Part, places: Sequence[int], how: How, first: int) -> list[Text]:
        others = [self._parts[part][place] for place in places]
        return [Text(family, first + n, other.chosen, how, other.row) for n, other in enumerate(others)]

    def _partners(
        self, part: Part, place: int, source: Part, order: Iterator[int], number: int, taken: Collection[int]
    ) -> list[int]:
        """The first places of `source` in this order whose answers are irrelevant to the prompt."""
        pair, found = self._parts[part][place], list[int]()
        for other in order:
            if len(found) == number:
                break
            own = part == source and other == place
            if not own and other not in taken and _irrelevant(pair, self._parts[source][other]):
                found.append(other)
        return found

    def _shuffled_places(self, part: Part, place: int, source: Part) -> Iterator[int]:
        chance = self._chance(part, self._parts[part][place].row, source)
        yield from chance.permutation(len(self._parts[source])).tolist()

    def _by_nearness(self, part: Part, place: int) -> Iterator[int]:
        """Places of trained prompts, the nearest first, equally near ones in their order."""
        if self._tfidf is None:
            self._tfidf = _tfidf(self._parts)
        if not self._tfidf:
            return
        alike = (self._tfidf["train"] @ self._tfidf[part][place].T).toarray().ravel()
        yield from np.argsort(-alike, kind="stable").tolist()

    def _permuted(self, part: Part, pair: Pair) -> str | None:
        words = pair.chosen.split()
        if len(set(words)) < 2:
            return None
        chance = self._chance(part, pair.row, "random_permute")
        while True:
            order = chance.permutation(len(words)).tolist()
            shuffled = [words[place] for place in order]
            if shuffled != words:
                return " ".join(shuffled)

    def _chance(self, part: Part, row: int, purpose: str) -> np.random.Generator:
        """Random numbers of its own for each job, part, row and purpose, whatever else is drawn."""
        key = "\x1f".join((self._job, part, str(row), purpose)).encode("utf-8", "surrogatepass")
        return np.random.default_rng(int.from_bytes(blake2b(key, digest_size=8).digest(), "big"))


def _irrelevant(pair: Pair, other: Pair) -> bool:
    with brought_by("method"):
        from rapidfuzz import fuzz

    if other.chosen.strip() == pair.chosen.strip():
        return False
    return fuzz.ratio(pair.prompt, other.prompt) / 100 < NEAR_DUPLICATE


def _tfidf(parts: Mapping[Part, Sequence[Pair]]) -> dict[Part, Any]:
    """Prompts × terms of each part, rows of length 1; nothing where no prompt has a word."""
    if not any(pair.prompt.strip() for pairs in parts.values() for pair in pairs):
        return {}
    with brought_by("method"):
        from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\S+")  # noqa: S106
    vectorizer.fit(pair.prompt for pairs in parts.values() for pair in pairs)
    return {
        part: vectorizer.transform([pair.prompt for pair in pairs]).tocsr() for part, pairs in parts.items() if pairs
    }
