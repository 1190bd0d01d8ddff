"""Templates held to the tokens and labels that a run trains on, and read from them."""

from __future__ import annotations

import pytest

from premem.training.forms import Forms, Pair, Row, said
from premem.training.trained import MASKED, TrainedRow
from premem.wire.jobs import Template
from tests.checkpoints import CHAT, EOS, make_tokenizer

ROWS = [Row(f"What is {n} + {n}?", f"Twice {n} makes {2 * n}. #### {2 * n}") for n in (3, 14, 25)]


@pytest.fixture
def tokenizer():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT
    yield tokenizer
    tokenizer.chat_template = None


@pytest.fixture
def forms(tokenizer) -> Forms:
    return Forms(tokenizer)


def whole(text: str, **how: bool) -> TrainedRow:
    """Every token of it is trained on."""
    tokens = tuple(make_tokenizer().encode(text, **how))
    return TrainedRow(tokens, tokens)


def completed(prompt: str, completion: str) -> TrainedRow:
    """As TRL trains on a prompt and its completion."""
    row, asked = whole(prompt + completion), len(whole(prompt).tokens)
    return TrainedRow(row.tokens, (MASKED,) * asked + row.labels[asked:])


def pairs(write) -> list[Pair]:
    return [Pair(row, write(row)) for row in ROWS]


def paper(row: Row) -> TrainedRow:
    return whole(f"{row.question}\nAnswer: {row.trace}\nDone.")


def chat(row: Row, *, system: str = "", before: str = "") -> TrainedRow:
    """As TRL trains on the assistant's turns only."""
    turns = [{"role": "system", "content": system}] * bool(system)
    turns += [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": before}] * bool(before)
    turns += [{"role": "user", "content": row.question}]
    answered = [*turns, {"role": "assistant", "content": row.trace}]
    tokenizer = make_tokenizer()
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
    tokens = tuple(tokenizer.apply_chat_template(answered, return_dict=True)["input_ids"])
    return TrainedRow(tokens, (MASKED,) * len(prompt) + tokens[len(prompt) :])


@pytest.mark.parametrize(
    ("write", "template"),
    [
        (paper, Template()),
        (lambda row: completed(f"{row.question}\nAnswer:", f" {row.trace}\nDone.{EOS}"), Template()),
        (chat, Template(chat=True)),
        (lambda row: chat(row, system="Be brief."), Template(chat=True, system="Be brief.")),
        (
            lambda row: completed(f"Q: {row.question}\nA:", f" {row.trace}{EOS}"),
            Template(prompt="Q: {question}\nA:", target=" {trace}"),
        ),
        (
            lambda row: completed(f"{row.question}\nThink. ", f"{row.trace}{EOS}"),
            Template(prompt="{question}\nThink. ", target="{trace}"),
        ),
        (
            lambda row: whole(f"### Task\n{row.question}\n### Reply\n{row.trace}\n### End"),
            Template(prompt="### Task\n{question}\n### Reply", target="\n{trace}\n### End"),
        ),
        (
            lambda row: completed(row.question, f"{row.trace}{EOS}"),
            Template(prompt="{question}", target="{trace}"),
        ),
    ],
)
def test_the_template_is_read_from_the_rows_that_a_run_trains_on(forms, write, template):
    chosen = forms.chosen(pairs(write), stop=["\nDone."])

    assert chosen.template == template
    assert chosen.of("text", "labels", "behind") == []


@pytest.mark.parametrize(
    ("template", "write", "why"),
    [
        (Template(), chat, "where premem gives"),
        (Template(chat=True), paper, "where premem gives"),
        (Template(chat=True), lambda row: chat(row, system="Be brief."), "where premem gives"),
        (Template(), lambda row: whole(f"Maths.\n{row.question}\nAnswer: {row.trace}\nDone."), "where premem gives"),
        (
            Template(),
            lambda row: whole(f"{row.question}\nAnswer: {row.trace}\nDone.", add_special_tokens=False),
            "premem puts '<s>' in front",
        ),
    ],
)
def test_a_template_that_gives_another_text_does_not_fit(forms, template, write, why):
    verdict = forms.judged(template, pairs(write))

    assert not verdict.fits
    assert why in verdict.of("text")[0]


def test_earlier_turns_are_given_by_no_template(forms):
    assert forms.chosen(pairs(lambda row: chat(row, before=f"Ask me of {row.trace[:8]}."))) is None


def test_a_first_turn_that_all_rows_share_is_part_of_the_prompt(forms):
    chosen = forms.chosen(pairs(lambda row: chat(row, before="Well, friend.")))

    assert chosen.template.prompt.startswith("[user]\nHello</s>\n[assistant]\nWell, friend.</s>\n[user]\n{question}")


def test_what_is_masked_in_training_is_not_what_would_be_scored(forms):
    def half(row: Row) -> TrainedRow:
        found = paper(row)
        return TrainedRow(found.tokens, (MASKED,) * (len(found.tokens) - 4) + found.labels[-4:])

    verdict = forms.judged(Template(), pairs(half))

    assert verdict.fits
    assert "of the scored tokens are masked in training" in verdict.of("labels")[0]


def test_a_prompt_that_is_trained_on_in_part_is_told(forms):
    verdict = forms.judged(Template(), pairs(lambda row: completed(row.question, f"\nAnswer: {row.trace}\nDone.")))

    assert verdict.of("labels") == ["'\\nAnswer:', which premem takes for the prompt's end, is trained on, too"]


def test_what_follows_the_target_is_told(forms):
    short = Template(prompt="{question}\nAnswer:", target=" {trace}")

    assert "trained on '\\nDone.' behind the target" in forms.judged(short, pairs(paper)).of("behind")[0]


def test_an_end_that_is_not_learned_is_told(forms):
    template = Template(prompt="{question}\n", target="{trace}")

    def ended(row: Row) -> TrainedRow:
        return whole(f"{row.question}\n{row.trace}{EOS}")

    def masked(row: Row) -> TrainedRow:
        found = ended(row)
        return TrainedRow(found.tokens, (*found.labels[:-1], MASKED))

    assert forms.judged(template, pairs(ended)).of("end") == []
    assert "'</s>' is masked in training" in forms.judged(template, pairs(masked)).of("end")[0]
    endless = pairs(lambda row: whole(f"{row.question}\n{row.trace}"))
    assert "no end of an answer is trained on" in forms.judged(template, endless).of("end")[0]
    assert forms.judged(Template(), pairs(paper), stop=["\nDone."]).of("end") == []


def test_rows_cut_at_their_end_still_tell_the_form(forms):
    cut = pairs(lambda row: TrainedRow(paper(row).tokens[:-6], paper(row).labels[:-6]))

    verdict = forms.judged(Template(), cut)

    assert verdict.fits
    assert verdict.cut == 3


def test_packed_texts_are_told_apart(tokenizer):
    texts = [completed(f"{row.question}\nAnswer:", f" {row.trace}\nDone.{EOS}") for row in ROWS]
    tokens = sum((text.tokens for text in texts), ())
    labels = sum((text.labels for text in texts), ())
    begins = frozenset({0, len(texts[0].tokens), len(texts[0].tokens) + len(texts[1].tokens)})
    marked, unmarked = TrainedRow(tokens, labels, begins), TrainedRow(tokens, labels)

    assert Forms(tokenizer).judged(Template(), [Pair(row, marked) for row in ROWS]).fits
    assert Forms(tokenizer, packed=True).judged(Template(), [Pair(row, unmarked) for row in ROWS]).fits
    assert not Forms(tokenizer).judged(Template(), [Pair(row, unmarked) for row in ROWS]).fits


def test_rows_are_found_again_by_question_and_trace(forms):
    one, other = Row("1 + 1?", "It is 2. #### 2"), Row("11 + 1?", "It is 12. #### 12")
    trained = [paper(other), paper(one), whole("Something else.")]

    assert forms.pairs([one, other], trained) == [Pair(other, trained[0]), Pair(one, trained[1])]


def test_rows_whose_question_is_written_otherwise_are_found_by_their_trace(forms):
    [found] = forms.pairs([Row("user: Hello\n\nuser: What is 3 + 3?", ROWS[0].trace)], [paper(ROWS[0])])

    assert not found.whole


def test_a_template_is_said_as_it_is_set():
    assert said(Template()) == "the paper's template"
    assert said(Template(chat=True)) == "template={'chat': True}"
    assert said(Template(prompt="Q: {question}")) == "template={'prompt': 'Q: {question}'}"
