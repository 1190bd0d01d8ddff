"""Answers that recite."""

from premem.method.copying import copied, similarity

TRACE = "Natalia sold 48/2 = 24 clips in May.\nAltogether she sold 72.\n#### 72"


def test_word_for_word_is_one_whatever_the_white_space():
    assert similarity(TRACE.replace("\n", "  "), TRACE) == 1.0


def test_another_way_to_the_same_answer_is_no_copy():
    assert similarity("In April 48, in May half of that: 72.", TRACE) < 0.5


def test_the_share_of_copies():
    assert copied([1.0, 0.95, 0.4, 0.2], copied_from=0.9) == 0.5
    assert copied([]) is None
