"""What stands in a model's thoughts is no answer, whatever grader looks for one."""

import pytest

from premem.grading import get_grader
from premem.grading.reading.thoughts import spoken, tagged
from premem.wire.bodies import GraderChoice

RIGHT = {"gsm8k": ("#### 7", "7"), "math": (r"\boxed{7}", r"\boxed{7}"), "choice": ("B", "B"), "exact": ("B", "B")}


def verdict(name, reference, answer, **options):
    return get_grader(GraderChoice(name=name, options=options)).grade(reference, answer).verdict


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>5?</think>\n7", "7"),
        ("5?</think>7", "7"),
        ("<thinking>5?</thinking> 7", "7"),
        ("<reasoning>5?</reasoning><answer>7</answer>", "<answer>7</answer>"),
        ("[THINK]5?[/THINK]7", "7"),
        ("◁think▷5?◁/think▷7", "7"),
        ("<|channel|>analysis<|message|>5?<|end|><|start|>assistant<|channel|>final<|message|>7<|return|>", "7"),
        ("<think>5", ""),
        ("7 <think>5", ""),
        ("7<|im_end|>\n<|im_start|>user\n8", "7"),
        ("<s> 7</s>", " 7"),
        ("a <b>bold</b> claim: 3 < 4", "a <b>bold</b> claim: 3 < 4"),
    ],
)
def test_only_what_follows_the_thoughts_is_said(text, said):
    assert spoken(text) == said


def test_the_last_answer_tag_that_holds_something_counts():
    assert tagged("<answer>5</answer> no: <answer> 7 </answer><answer></answer>") == "7"
    assert tagged("<answer>7") == "7"
    assert tagged("7") is None


@pytest.mark.parametrize("name", RIGHT)
def test_a_thought_is_no_answer(name):
    reference, said = RIGHT[name]

    assert verdict(name, reference, f"<think>{said}</think>") == "no_answer"
    assert verdict(name, reference, f"<think>{said}") == "no_answer"
    assert verdict(name, reference, f"<think>hm</think>\n{said}") == "right"
    assert verdict(name, reference, f"<think>hm</think>\n<answer>{said}</answer>") == "right"


@pytest.mark.parametrize(
    ("name", "reference", "thought", "said"),
    [
        ("gsm8k", "#### 5", "#### 5", "The answer is 7."),
        ("math", r"\boxed{5}", r"\boxed{5}", "The answer is 7."),
        ("choice", "A", "The answer is A.", "B"),
        ("exact", "A", "A", "B"),
    ],
)
def test_an_answer_thought_of_and_given_up_is_wrong(name, reference, thought, said):
    assert verdict(name, reference, f"<think>{thought}</think>{said}") == "wrong"


def test_a_pattern_may_name_the_tags_itself():
    assert verdict("regex", "7", "<think>5</think>7", pattern=r"</think>(\d)") == "right"
    assert verdict("regex", "7", "<think>7</think>5", pattern=r"(\d)") == "wrong"
    assert verdict("exact", "7", "<think>5</think>7", after="</think>") == "right"


def test_authors_compares_as_the_paper_s_code_does():
    assert verdict("authors", "#### 5", "<think>5</think>\n#### 5") == "right"
    assert verdict("authors", "#### 5", "<think>\n#### 5") == "right"
