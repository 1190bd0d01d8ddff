"""Which texts are scored behind a prompt."""

import builtins

import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem.dynamics.families import Families, Pair, SpanRule, with_white_space_of
from premem.errors import InputError

WORDS = ["apples", "bridges", "clouds", "drums", "engines", "forests", "glaciers", "harbours", "islands", "jungles"]


def pair(row, topic=None, **columns):
    topic = topic or WORDS[row % 10]
    question = f"Row {row * 7919}: {topic} {topic[::-1]} {topic.upper()}?"
    return Pair(row, question, f" {topic} are answer {row} of the trained", f" no {topic}", columns)


TRAINED = [pair(row) for row in range(8)]
HELD = [Pair(row, f"Held-out {WORDS[row]} {row}?", f" held {WORDS[row]} answer", " no") for row in range(8, 10)]


def texts(place=0, part="train", job="job_1", trained=TRAINED, held=HELD, families=None):
    return Families(trained, held, job=job, families=families).texts(part, place)


def of(family, found):
    return [one for one in found if one.family == family]


def test_every_family_of_a_pair():
    found = texts()

    assert [(one.family, one.draw, one.how) for one in found] == [
        ("chosen", 0, "own"),
        ("rejected", 0, "own"),
        ("irr_train", 0, "random"),
        ("irr_train", 1, "random"),
        ("irr_train", 2, "nearest"),
        ("irr_train", 3, "nearest"),
        ("irr_test", 0, "random"),
        ("random_permute", 0, "shuffled"),
    ]


def test_partners_are_other_trained_prompts_each_once():
    rows = [one.source_row for one in of("irr_train", texts(3))]

    assert len(set(rows)) == 4
    assert 3 not in rows
    assert {one.source_row for one in of("irr_test", texts(3))} <= {8, 9}


def test_a_held_out_prompt_is_answered_with_trained_answers_and_another_held_out_one():
    found = texts(0, "holdout")

    assert {one.source_row for one in of("irr_train", found)} <= set(range(8))
    assert [one.source_row for one in of("irr_test", found)] == [9]


def test_the_nearest_prompts_share_the_rarest_words():
    trained = [
        Pair(0, "How do I tune an old piano at home?", " a", " x"),
        Pair(1, "Which rivers flow through the city of Basel?", " b", " x"),
        Pair(2, "Who can tune my piano in the spring, and what does it cost?", " c", " x"),
        Pair(3, "Is there a piano that I need not tune?", " d", " x"),
        Pair(4, "Why is the sky of Mars red at noon?", " e", " x"),
    ]

    nearest = [one.source_row for one in of("irr_train", texts(trained=trained)) if one.how == "nearest"]

    assert sorted(nearest) == [2, 3]


def test_a_near_duplicate_prompt_is_no_partner_nor_is_the_same_answer():
    trained = [
        Pair(0, "How do I tune an old piano at home?", " a", " x"),
        Pair(1, "How do I tune an old piano at home??", " b", " x"),
        Pair(2, "Something else entirely", " a ", " x"),
        Pair(3, "And one more that differs", " d", " x"),
    ]

    assert {one.source_row for one in of("irr_train", texts(trained=trained))} == {3}


def test_prompts_without_a_word_are_all_the_same_and_have_no_partners():
    trained = [Pair(row, "", f" {word}", " x") for row, word in enumerate(WORDS)]

    assert of("irr_train", texts(trained=trained, held=[])) == []


def test_the_same_job_and_row_draw_the_same_texts_whatever_else_is_drawn():
    all_of_them, few = texts(2), texts(2, families=["irr_train"])

    assert of("irr_train", few) == of("irr_train", all_of_them)
    assert texts(2) == all_of_them


def test_another_job_draws_others():
    drawn = {tuple(one.text for one in texts(2, job=f"job_{n}")) for n in range(5)}

    assert len(drawn) > 1


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=2, max_size=8))
def test_shuffled_words_are_the_same_words_in_another_order(words):
    one = Pair(0, "?", " " + " ".join(words), " x")

    found = of("random_permute", texts(trained=[one], held=[], families=["random_permute"]))

    assert len(found) == (len(set(words)) > 1)
    for shuffled in found:
        assert sorted(shuffled.text.split()) == sorted(words)
        assert shuffled.text.split() != words


def test_a_column_is_a_family_and_an_empty_one_is_none():
    found = texts(trained=[pair(0, paraphrase="said otherwise", empty="  ")], held=[])

    assert [(one.family, one.text) for one in found if one.family in {"paraphrase", "empty"}] == [
        ("paraphrase", " said otherwise")
    ]


@pytest.mark.parametrize(
    ("chosen", "text", "wanted"), [(" yes", "no", " no"), ("yes", " no", "no"), ("\n\nyes", " no ", "\n\nno ")]
)
def test_every_text_begins_with_the_white_space_of_chosen(chosen, text, wanted):
    assert with_white_space_of(chosen, text) == wanted


def test_a_family_that_is_not_there_and_a_column_named_like_one_that_is_made_are_told():
    with pytest.raises(InputError, match="no family 'irr_hum'"):
        texts(families=["irr_hum"])
    with pytest.raises(InputError, match="'irr_train' has the name"):
        texts(trained=[pair(0, irr_train="drawn by others")])


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "rapidfuzz":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(InputError, match=r"needs rapidfuzz, which is not installed: pip install 'premem\[method\]'"):
        texts()


def test_an_answer_is_cut_by_position_and_scored_with_its_end_token():
    found = SpanRule(end=(2,)).span([5, 6, 7], [5, 6, 7, 8, 9])

    assert (found.tokens, found.target_start, found.target_tokens, found.shifted) == ((5, 6, 7, 8, 9, 2), 3, 3, False)


def test_an_end_token_that_is_there_is_not_put_twice():
    assert SpanRule(end=(2,)).span([5], [5, 8, 2]).tokens == (5, 8, 2)


def test_a_prompt_that_merged_with_its_answer_is_cut_at_its_length_and_marked():
    found = SpanRule().span([5, 6], [5, 66, 8])

    assert (found.target_start, found.target_tokens, found.shifted) == (2, 1, True)
