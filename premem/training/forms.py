"""Whether a template gives the prompt and the target that a run trains on, told by the run's own tokens and labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from premem.errors import InputError
from premem.method.spans import Span, closing_tokens, prompt_tokens, split
from premem.method.turns import Turns
from premem.training.trained import MASKED, TrainedRow
from premem.wire.jobs import Template

MOST_PAIRS = 16
"""So many rows tell a form from another."""
FEW = 0.1
"""Share of the rows that may differ from the form of all others."""
FEW_PACKED = 0.5
"""Where a row may begin in the middle of a text."""
LONG_TRACE = 12
"""Characters, spaces aside: a trace as long is recognized without its question."""
BEGUN = 24
"""Characters, spaces aside, of a trace that a row which is cut still holds."""
SHOWN = 60
"""Characters of a text in a message."""
_ASKED, _SAID = "premem asks", "premem says before"

Kind = Literal["text", "labels", "behind", "end"]
"""text: other tokens in front of the scored ones, or in them, so that every number is another's. labels: another part is
trained on than is scored. behind: what is trained on goes on where the target ends. end: no answer is taught to end."""


@dataclass(frozen=True, slots=True)
class Row:
    """An uploaded row as the service reads it."""

    question: str
    trace: str


@dataclass(frozen=True, slots=True)
class Pair:
    """An uploaded row, and where it is trained on."""

    row: Row
    trained: TrainedRow
    whole: bool = True
    """False: only its trace was found there."""


@dataclass(frozen=True, slots=True)
class Difference:
    kind: Kind
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of a template, over all pairs."""

    template: Template
    differences: list[Difference] = field(default_factory=list)
    """The most frequent one of each kind, where more than FEW rows have one of that kind."""
    cut: int = 0
    """Rows that end within their target, as `max_length` cuts them."""

    def of(self, *kinds: Kind) -> list[str]:
        return [one.message for one in self.differences if one.kind in kinds]

    @property
    def fits(self) -> bool:
        return not self.of("text")

    @property
    def faults(self) -> int:
        return len(self.of("labels", "behind"))


class Forms:
    """What templates give, held to what a run trains on. `tokenizer` is the run's, or a copy of it."""

    def __init__(self, tokenizer: Any, *, ends: Collection[int] = (), packed: bool = False) -> None:
        """`ends`: the tokens at which sampling will stop. `packed`: texts follow each other in a row unmarked."""
        self._tokenizer = tokenizer
        self._special = frozenset(tokenizer.all_special_ids) | frozenset(getattr(tokenizer, "added_tokens_decoder", ()))
        self._ends = frozenset(ends) | ({tokenizer.eos_token_id} - {None})
        self._packed = packed
        self._closing = closing_tokens(tokenizer)

    # Rows found again

    def pairs(self, rows: Sequence[Row], trained: Sequence[TrainedRow]) -> list[Pair]:
        """At most MOST_PAIRS of them; where a question stands nowhere in a trained row, those of the traces alone."""
        wanted = [(_squeezed(row.question), _squeezed(row.trace), row) for row in rows]
        wanted.sort(key=lambda one: len(one[0]) + len(one[1]), reverse=True)  # "1 + 1?" stands in "11 + 1?", too
        whole, by_trace = [], []
        for one in trained:
            text = _squeezed(self._text(one.tokens))
            found = next((row for asked, trace, row in wanted if trace[:BEGUN] in text and _holds(text, asked)), None)
            if found is not None:
                whole.append(Pair(found, one))
            else:
                traces = (row for _, trace, row in wanted if len(trace) >= LONG_TRACE and trace in text)
                by_trace += [Pair(row, one, whole=False) for row in [next(traces, None)] if row is not None]
            if len(whole) == MOST_PAIRS:
                break
        return whole or by_trace[:MOST_PAIRS]

    # One template

    def judged(self, template: Template, pairs: Sequence[Pair], *, stop: Sequence[str] = ()) -> Verdict:
        found: list[Difference] = []
        cut = 0
        try:
            turns = Turns(self._tokenizer, system=template.system) if template.chat else None
        except InputError as error:
            return Verdict(template, [Difference("text", f"the chat template {error}")])
        for pair in pairs:
            try:
                differences, was_cut = self._compared(pair, template, turns, stop)
            except InputError as error:
                differences, was_cut = [Difference("text", f"the chat template {error}")], False
            found += differences
            cut += was_cut
        counts = Counter(one.kind for one in found)
        few = FEW_PACKED if self._packed else FEW
        kinds = [kind for kind, count in counts.items() if count > few * len(pairs)]
        usual = [Counter(one for one in found if one.kind == kind).most_common(1)[0][0] for kind in kinds]
        return Verdict(template, usual, cut)

    def chosen(self, pairs: Sequence[Pair], *, stop: Sequence[str] = ()) -> Verdict | None:
        """The template that gives what is trained on; the paper's where it does. None: there is none."""
        verdicts = []
        for template in self._candidates(pairs):
            verdict = self.judged(template, pairs, stop=stop)
            if verdict.fits and not verdict.faults:
                return verdict
            verdicts += [verdict] if verdict.fits else []
        return min(verdicts, key=lambda verdict: verdict.faults, default=None)

    def _span(self, row: Row, template: Template, turns: Turns | None) -> Span:
        asked, answer = template.render_prompt(row.question), template.render_target(row.trace)
        prompt, whole = asked, asked + answer
        if turns is not None:
            prompt, whole = turns.prompt(asked), turns.answered(asked, answer)
        return split(self._tokens(prompt, chat=template.chat), self._tokens(whole, chat=template.chat))

    def _tokens(self, text: str, *, chat: bool) -> tuple[int, ...]:
        return prompt_tokens(self._tokenizer, text, closing=0 if chat else self._closing, special=not chat)

    # One row under one template

    def _compared(
        self, pair: Pair, template: Template, turns: Turns | None, stop: Sequence[str]
    ) -> tuple[list[Difference], bool]:
        """What differs, and whether the row is cut within its target."""
        span, row = self._span(pair.row, template, turns), pair.trained
        begin, length = self._place(span, row)
        if begin is None:
            return [self._other_text(span, row)], False
        if front := self._in_front(row, begin):
            return [Difference("text", f"{front!r} stands in front of it where it is trained on")], False
        labels = row.labels[begin : begin + length]
        scored = labels[span.target_start :]
        masked = sum(label == MASKED for label in scored)
        if masked == len(scored):
            return [Difference("text", "no token of what would be scored is trained on: all are masked")], False
        found = [one for one in [self._other_labels(span, labels, masked)] if one]
        cut = length < len(span.tokens)
        if not cut:
            # A turn's end is not scored, as no end of a text is.
            stopped = turns is None and any(template.render_target("").endswith(one) for one in stop)
            found += self._behind(row, begin + length, turns.after if turns else "", stopped=stopped)
        return found, cut

    def _place(self, span: Span, row: TrainedRow) -> tuple[int | None, int]:
        """Where the span begins in the row, and how much of it is there: all, or up to where the row was cut."""
        for begin in _places(span.tokens, row.tokens):
            if not self._in_front(row, begin):
                return begin, len(span.tokens)
        whole = next(_places(span.tokens, row.tokens), None)
        if whole is not None:
            return whole, len(span.tokens)
        for length in range(min(len(span.tokens), len(row.tokens)), span.target_start, -1):
            if row.tokens[-length:] == span.tokens[:length]:
                return len(row.tokens) - length, length
        return None, 0

    def _in_front(self, row: TrainedRow, begin: int) -> str:
        """What stands in the same text before it."""
        if begin in row.starts or (self._packed and row.tokens[begin - 1] in self._ends):
            return ""
        start = max(place for place in row.starts if place < begin)
        front = row.tokens[start:begin]
        if all(token == self._tokenizer.pad_token_id and token not in self._ends for token in front):
            return ""
        return _shortened(self._text(front), end=True)

    def _other_text(self, span: Span, row: TrainedRow) -> Difference:
        start = max(row.starts, key=lambda start: _shared(row.tokens[start:], span.tokens))
        trained = row.tokens[start:]
        same = _shared(trained, span.tokens)
        if same == 0 and span.tokens[1:3] == trained[:2]:
            return Difference(
                "text",
                f"premem puts {self._text(span.tokens[:1])!r} in front, as the tokenizer does by itself, and the rows of "
                "this run have none there (tokenize them with add_special_tokens=True)",
            )
        shown = slice(max(0, same - 4), same + 12)
        return Difference(
            "text",
            f"trained on {_shortened(self._text(trained[shown]))!r} where premem gives "
            f"{_shortened(self._text(span.tokens[shown]))!r}",
        )

    def _other_labels(self, span: Span, labels: Sequence[int], masked: int) -> Difference | None:
        if masked:
            first = next(place for place in range(span.target_start, len(labels)) if labels[place] == MASKED)
            text = _shortened(self._text(span.tokens[first : first + 8]))
            return Difference("labels", f"{masked} of the scored tokens are masked in training, such as {text!r}")
        before = span.target_start
        while before > 0 and labels[before - 1] != MASKED:
            before -= 1
        if before <= 1 or before == span.target_start:  # the whole text is trained on, or just what is scored
            return None
        text = _shortened(self._text(span.tokens[before : span.target_start]))
        return Difference("labels", f"{text!r}, which premem takes for the prompt's end, is trained on, too")

    def _behind(self, row: TrainedRow, end: int, after: str, *, stopped: bool) -> list[Difference]:
        """`after`: what ends the turn. `stopped`: the target ends with a text at which sampling stops."""
        text_ends = min((start for start in row.starts if start >= end), default=len(row.tokens))
        rest, labels = row.tokens[end:text_ends], row.labels[end:text_ends]
        if self._packed:
            rest = rest[: next((place + 1 for place, token in enumerate(rest) if token in self._ends), len(rest))]
        learned = [token for token, label in zip(rest, labels, strict=False) if label != MASKED]
        if after and self._text(rest).startswith(after.strip()) and not self._ended(after):
            return []  # a turn that ends in plain words
        text = self._text([token for token in learned if token not in self._special])
        if text.strip():
            leaves_out = f"trained on {_shortened(text)!r} behind the target, which the template leaves out"
            return [Difference("behind", leaves_out)]
        ending = next((token for token in rest if token in self._special), None)
        fault = None if stopped else self._end_fault(ending, learned)
        return [Difference("end", fault)] if fault else []

    def _ended(self, after: str) -> bool:
        return any(token in self._special for token in self._tokenizer.encode(after, add_special_tokens=False))

    def _end_fault(self, ending: int | None, learned: Collection[int]) -> str | None:
        if ending is None:
            return (
                "no end of an answer is trained on, so answers go on to max_tokens: end the training texts with the end "
                "token, or with a text that sampling's stop names"
            )
        if ending not in learned:
            return (
                f"the end token {self._text([ending])!r} is masked in training (a collator masks what pads, too), so answers "
                "may go on to max_tokens: give the tokenizer a pad token of its own"
            )
        if ending not in self._ends:
            return (
                f"answers are trained to end with {self._text([ending])!r}, where sampling does not stop: add its id, "
                f"{ending}, to eos_token_id in the model's generation_config"
            )
        return None

    # Templates that may be meant

    def _candidates(self, pairs: Sequence[Pair]) -> Iterator[Template]:
        yield Template()
        if getattr(self._tokenizer, "chat_template", None):
            yield Template(chat=True)
            if system := _usual(self._system(pair) for pair in pairs if pair.whole):
                yield Template(chat=True, system=system)
        if written := _usual(self._written(pair) for pair in pairs if pair.whole):
            yield Template(prompt=written[0], target=written[1])

    def _system(self, pair: Pair) -> str | None:
        """What the row's text has where the chat template writes the system's turn."""
        try:
            prompt = Turns(self._tokenizer, system=_SAID).prompt(_ASKED)
        except InputError:
            return None
        before, said, rest = prompt.partition(_SAID)
        between, asked, _ = rest.partition(_ASKED)
        if not said or not asked:
            return None
        pattern = re.escape(before) + "(.*?)" + re.escape(between) + re.escape(pair.row.question.strip())
        found = re.search(pattern, self._text(pair.trained.tokens), re.DOTALL)
        return found[1] if found else None

    def _written(self, pair: Pair) -> tuple[str, str] | None:
        """Prompt and target, with the row's own words replaced by their columns."""
        row, trained = pair.row, pair.trained
        start = max((start for start in trained.starts if self._holds(row, trained, start)), default=0)
        tokens, labels = list(trained.tokens[start:]), list(trained.labels[start:])
        plain, special = (self._tokenizer.encode("a", add_special_tokens=add) for add in (False, True))
        put = special[: len(special) - len(plain) - self._closing]
        if put and tokens[: len(put)] == put:
            tokens, labels = tokens[len(put) :], labels[len(put) :]
        text = self._text(tokens)
        asked = text.find(row.question)
        answered = text.find(row.trace, asked + len(row.question))
        if asked < 0 or answered < 0:
            return None
        ends = [self._text([token]) for token in self._special]
        front = max((text.rfind(end, 0, asked) + len(end) for end in ends if end in text[:asked]), default=0)
        begun, middle = text[front if self._packed else 0 : asked], text[asked + len(row.question) : answered]
        behind = text[answered + len(row.trace) :]
        behind = behind[: min((behind.find(end) for end in ends if end in behind), default=len(behind))]
        first = next((place for place, label in enumerate(labels) if label != MASKED), 0)
        trained_from = len(self._text(tokens[:first])) - asked - len(row.question)
        if first <= 1:  # the whole text is trained on: the answer begins with the space in front of it
            trained_from = len(middle.rstrip())
        if not 0 <= trained_from <= len(middle):
            return None
        return begun + "{question}" + middle[:trained_from], middle[trained_from:] + "{trace}" + behind

    def _holds(self, row: Row, trained: TrainedRow, start: int) -> bool:
        end = min((other for other in trained.starts if other > start), default=len(trained.tokens))
        return row.question in self._text(trained.tokens[start:end])

    def _text(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


def said(template: Template) -> str:
    """As a setting of the callback."""
    if template == Template():
        return "the paper's template"
    values = {
        name: value for name, value in template.model_dump().items() if value != Template().model_dump().get(name)
    }
    if template.chat:
        defaults = Template(chat=True)
        values = {name: value for name, value in values.items() if value != getattr(defaults, name) or name == "chat"}
    return f"template={values!r}"


def _places(wanted: Sequence[int], tokens: Sequence[int]) -> Iterator[int]:
    size = len(wanted)
    for place in range(len(tokens) - size + 1):
        if tokens[place] == wanted[0] and tokens[place : place + size] == wanted:
            yield place


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    return next(
        (n for n, (one, other) in enumerate(zip(left, right, strict=False)) if one != other), min(len(left), len(right))
    )


def _holds(text: str, asked: str) -> bool:
    """Without spaces; a number is not found in the end of a longer one."""
    place = text.find(asked)
    while place > 0 and asked[:1].isdigit() and text[place - 1].isdigit():
        place = text.find(asked, place + 1)
    return place >= 0


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _shortened(text: str, *, end: bool = False) -> str:
    return text if len(text) <= SHOWN else f"…{text[-SHOWN:]}" if end else f"{text[:SHOWN]}…"


def _usual(found: Iterator[Any]) -> Any:
    counts = Counter(one for one in found if one)
    return counts.most_common(1)[0][0] if counts else None
