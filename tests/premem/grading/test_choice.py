"""Which letter choice takes for a text's final answer."""

import pytest

from premem.grading import get_grader
from premem.wire.bodies import GraderChoice


def found(text, **options):
    return get_grader(GraderChoice(name="choice", options=options)).grade("C", text).extracted


def verdict(reference, answer, **options):
    return get_grader(GraderChoice(name="choice", options=options)).grade(reference, answer).verdict


@pytest.mark.parametrize(
    "text",
    [
        "c.",
        "**C**",
        "[C]",
        "Answer - C",
        "The answer is:\n\nC",
        "**Answer**\nC",
        "The correct choice is (C)",
        "The best answer is thus C, since mirrors flip the sides",
        "My answer would be C, as B fails",
        "The answer is C; B is far too big.",
        "The answer is C. Option B ignores the air.",
        "The answer is C. A mirror flips the sides.",
        "The answer is C rather than B",
        "The answer is not A. It is C.",
        "The answer is B. Wait, no. The answer is C.",
        r"\boxed{\textbf{(C)}\ 12}",
        r"The answer is \boxed{C}. B is wrong.",
        "#### C. twelve",
        "C. twelve",
        "C. Vitamin B",
        "C: twelve",
        "C because B is wrong",
        "C\n\nB is wrong because it is small.",
        "Option C",
        "C is correct. D is wrong.",
        "Option B is incorrect, while option C is correct, and option D is out.",
        "A is not correct, C is correct",
        "I choose C because the others fail.",
        "I would go with C.",
        "Option A fails. Option B fails. So it must be C.",
        "Therefore, C.",
        "Among these, C is the most appropriate.",
        "Answer: A quick sketch shows that it is C.",
        "Answer: I think it is C.",
        "Answer: Let us see. Glass slows light, so the answer is C",
        "(C) fits, and (A) is too small.",
        "A) 3 is small.\nB) 4 is small.\nC) fits.\n\nC",
        "<answer>C. 12</answer>",
        '{"answer": "C", "why": "B is small"}',
    ],
)
def test_the_letter_that_is_chosen_counts(text):
    assert found(text) == "C"


@pytest.mark.parametrize(
    "text",
    [
        "Die richtige Antwort ist C, weil B falsch ist",
        "La respuesta correcta es la opción C",
        "La bonne réponse est C.",
        "La risposta corretta è C.",
        "A resposta certa é a letra C",
        "Правильный ответ — C.",
        "Poprawna odpowiedź to C.",
        "Het juiste antwoord is C",
        "Doğru cevap: C",
        "Jawaban yang benar adalah C",
        "Đáp án đúng là C",
        "उत्तर: C",
        "الإجابة الصحيحة هي C",
        "الجواب: ج",
        "คำตอบคือ C",
        "정답은 C입니다",
        "答えはCです",
        "正确答案是C。",
        "答案选C",
        "故选：C",
        "C选项正确",
        "答案：Ｃ",
        "（Ｃ）",
        "不选A，选C",
    ],
)
def test_a_letter_is_announced_in_other_languages(text):
    assert found(text) == "C"


@pytest.mark.parametrize(
    "text",
    ["A quick sketch helps.", "Because of f(a)", "The answer is a lens", "The answer is 72", "None of these.", "(F)"],
)
def test_a_word_is_no_letter(text):
    assert found(text) is None


def test_the_pronoun_is_no_letter():
    assert found("I would go with C", letters="ABCDEFGHIJ") == "C"
    assert found("The answer is I.", letters="ABCDEFGHIJ") == "I"
    assert found("So do I", letters="ABCDEFGHIJ") is None


def test_several_letters_are_no_single_one():
    assert verdict("C", "Both B and C.") == "wrong"
    assert verdict("A", "The answer is A or C.") == "wrong"
    assert verdict("A, C", "The answer is A and C.") == "right"
    assert verdict("AC", "\\boxed{AC}") == "right"


@pytest.mark.parametrize("reference", ["B. a lens", "B) a lens", "(B) a lens", "B: 12 m/s", "B. Vitamin C", "B", "b"])
def test_a_reference_begins_with_its_letter(reference):
    assert verdict(reference, "The answer is B.") == "right"
    assert verdict(reference, "The answer is C.") == "wrong"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "part", ["A ", "A) ", "\n", "the answer is ", "I pick ", "(A) and ", "A, ", "\\boxed{A", "*", "so A.  "]
)
def test_long_texts_take_no_long_time(part):
    assert verdict("B", part * 100_000) in ("right", "wrong", "no_answer")
