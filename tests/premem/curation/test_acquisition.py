"""New examples like the low ones."""

import json

import numpy as np
import pytest

from premem.curation.acquisition import acquire, acquire_in_parts, seed_requests, tfidf
from premem.errors import InputError
from premem.records import Example


def test_the_candidates_most_like_a_low_example_come_first():
    low_LD = np.array([[1.0, 0.0], [0.0, 2.0]])
    pool_ND = np.array([[-1.0, 0.0], [0.1, 5.0], [3.0, 0.0], [1.0, 1.0]])

    found = acquire(low_LD, pool_ND, budget=3)

    assert [(candidate.position, candidate.nearest) for candidate in found] == [(2, 0), (1, 1), (3, 0)]
    assert found[0].similarity == pytest.approx(1.0)


def test_what_all_examples_share_makes_none_of_them_low():
    shared = "how many of them are there in all after Ann"
    low = [f"{shared} zulks {n} pens?" for n in range(8)]
    rest = [f"{shared} gives {n} pens?" for n in range(8)]
    pool = [f"{shared} gives 3 pens?", "Bob zulks some", f"{shared} takes 3 pens?"]

    low_LD, rest_RD, pool_ND = tfidf(low, rest, pool)
    told = acquire(low_LD, pool_ND, budget=3, rest_RD=rest_RD)
    nearest = acquire(low_LD, pool_ND, budget=3)

    assert told[0].position == 1
    assert nearest[0].position != 1
    assert told[0].likeness > 0.5 > told[1].likeness
    assert nearest[0].likeness is None


def test_without_a_rest_to_tell_them_from_the_nearest_come_first():
    low_LD, rest_RD, pool_ND = tfidf(["one two"], [], ["three", "one two"])

    assert [one.position for one in acquire(low_LD, pool_ND, budget=2, rest_RD=rest_RD)] == [1, 0]


def test_a_pool_in_parts_gives_the_same_as_a_whole_one():
    chance = np.random.default_rng(0)
    low_LD, rest_RD, pool_ND = (chance.normal(size=(n, 4)) for n in (5, 9, 50))

    parts = acquire_in_parts(low_LD, [pool_ND[:20], pool_ND[20:20], pool_ND[20:]], budget=7, rest_RD=rest_RD)

    assert parts == acquire(low_LD, pool_ND, budget=7, rest_RD=rest_RD)


def test_words_in_common_make_questions_alike():
    low, pool = tfidf(["how many apples does Ann eat"], ["the train leaves at nine", "how many pears does Bob eat"])

    assert acquire(low, pool, budget=1)[0].position == 1


@pytest.mark.parametrize(
    ("low", "pool", "message"),
    [(np.empty((0, 2)), np.ones((1, 2)), "no example is low"), (np.ones((1, 2)), np.empty((0, 2)), "pool is empty")],
)
def test_nothing_to_look_for_or_to_look_in_is_refused(low, pool, message):
    with pytest.raises(InputError, match=message):
        acquire(low, pool, budget=1)


def test_texts_that_are_empty_are_like_nothing():
    low, pool = tfidf(["one two"], ["", "one two"])

    assert [candidate.similarity for candidate in acquire(low, pool, budget=2)] == pytest.approx([1.0, 0.0])


def test_requests_are_dealt_out_by_weight():
    low = [Example(id=name, question=f"{name}?", trace="#### 1") for name in "abc"]

    lines = [json.loads(line) for line in seed_requests(low, [3.0, 1.0, 0.0], requests=6, model="any")]

    assert [line["custom_id"] for line in lines] == ["a-0", "a-1", "a-2", "a-3", "a-4", "b-0"]
    assert {line["url"] for line in lines} == {"/v1/chat/completions"}
    assert json.loads(lines[0]["body"]["messages"][1]["content"]) == {"question": "a?", "trace": "#### 1"}


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [-1.0, 2.0]])
def test_weights_that_do_not_fit_are_refused(weights):
    low = [Example(id=name, question="?", trace="1") for name in "ab"]

    with pytest.raises(InputError, match="weight"):
        list(seed_requests(low, weights, requests=2, model="any"))
