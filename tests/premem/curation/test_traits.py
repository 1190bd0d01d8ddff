"""What chosen examples have in common."""

import numpy as np
import pytest

from premem.curation.traits import answer_kind, cliffs_delta, steps, traits
from premem.records import Example


def example(question: str = "How many?", trace: str = "One.\n#### 1", final_answer: str | None = None) -> Example:
    return Example(id="0", question=question, trace=trace, final_answer=final_answer)


def test_cliffs_delta_by_hand():
    assert cliffs_delta(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 1.0
    assert cliffs_delta(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0.0
    assert cliffs_delta(np.array([1.0]), np.array([1.0, 2.0])) == -0.5


@pytest.mark.parametrize(
    ("trace", "final_answer", "kind"),
    [
        ("So.\n#### 1,200", None, "an integer"),
        ("So $\\boxed{\\frac{1}{2}}$.", None, "a fraction"),
        ("", "$3.50", "a decimal"),
        ("", "twelve", "text"),
        ("it is 7.", None, "an integer"),
    ],
)
def test_the_kind_of_an_answer(trace, final_answer, kind):
    assert answer_kind(example(trace=trace, final_answer=final_answer)) == kind


def test_steps_leave_out_the_line_of_the_answer():
    assert steps("First.\n\nThen.\n#### 3") == 2


def test_long_questions_that_were_chosen_stand_out():
    examples = [example(question="word " * length) for length in (50, 60, 5, 6, 7)]

    found = traits(examples, np.array([True, True, False, False, False]))

    assert found[0].name == "words in the question"
    assert (found[0].chosen, found[0].rest, found[0].effect) == (55.0, 6.0, 1.0)


def test_nothing_chosen_has_nothing_in_common():
    assert traits([example()], np.array([False])) == []
