"""What gsm8k takes for a text's final answer, and which of these it calls equal."""

import pytest

from premem.grading import get_grader
from premem.grading.gsm8k import final_number
from premem.wire.bodies import GraderChoice


def verdict(reference, answer, **options):
    return get_grader(GraderChoice(name="gsm8k", options=options)).grade(reference, answer).verdict


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-8", "–8"),
        ("-8", "－8"),
        ("-8", "- 8 degrees"),
        ("2400", "２４００"),
        ("2400", "२४००"),
        ("2400", "٢٬٤٠٠"),
        ("3000000", "3 000 000"),
        ("2345678", "2.345.678"),
        ("45000", "45'000"),
        ("3500.25", "3.500,25"),
        ("3500.5", "3 500,5"),
        ("2500", "2.5 × 10^3"),
        ("2500", r"2.5 \times 10^{3}"),
        ("2500", "2.5 × 10³"),
        ("81", "3^4"),
        ("81", "3**4"),
        ("3000000", "3 million"),
        ("5000", "5 thousand pens"),
        ("20000", "2万"),
        ("2.5", r"2\frac12"),
        ("2.5", "2½"),
        ("0.75", "¾"),
        ("24", r"\boxed{24 \text{ cm}}"),
        ("24", "`24`"),
        ("24", "24<|im_end|>"),
        ("24", "20 + 4"),
        ("24", "twenty-four"),
        ("18", "18 m^2"),
        ("4:15", "4:15 pm"),
        ("16:15", "4:15 p.m."),
        ("2:3", "2 : 3"),
        ("2:3", "2 to 3"),
        ("10-20", "10–20"),
        ("4, 9", "9 and 4"),
        ("x=4, y=9", "y = 9 and x = 4"),
        ("03/05/2021", "3/5/2021"),
        (r"3\sqrt{2}", "3√2"),
        (r"6\pi", "6π"),
        ("2x + 7", "2x+7"),
    ],
)
def test_two_ways_to_write_an_answer_are_one(one, other):
    assert verdict(f"#### {one}", f"#### {other}") == "right"
    assert verdict(f"#### {other}", f"#### {one}") == "right"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("8", "- 8"),
        ("3", "3 000 000"),
        ("2.345", "2.345.678"),
        ("45", "45'000"),
        (r"2.5 \times 10^3", r"2.5 \times 10^4"),
        ("10^5", "10^6"),
        ("3", "3^4"),
        ("3 million", "3 billion"),
        ("3", "3 million"),
        ("4:15", "4:45"),
        ("4:15 am", "4:15 pm"),
        ("4", "4:15"),
        ("2:3", "2:5"),
        ("10-20", "10-25"),
        ("4, 9", "4, 8"),
        ("4, 9", "4"),
        ("x = 4 and y = 9", "x = 4 and y = 8"),
        ("11/12/2021", "11/13/2021"),
        (r"\frac12", "12"),
        ("2", "2½"),
        (r"3\sqrt{2}", r"3\sqrt{5}"),
        (r"3\sqrt{2}", "3"),
        (r"\sqrt{2}", "2"),
        (r"6\pi", "6"),
        ("2x + 7", "2x + 9"),
        (r"\frac{\sqrt{3}}{2}", r"\frac{\sqrt{5}}{2}"),
    ],
)
def test_answers_that_only_begin_alike_differ(one, other):
    assert verdict(f"#### {one}", f"#### {other}") == "wrong"
    assert verdict(f"#### {other}", f"#### {one}") == "wrong"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 3 hours (1 hour is 60 minutes)", "3"),
        ("#### 3 (since 9/3 = 3)", "3"),
        ("#### 12, since 4 * 3 = 12 and 12 < 13", "12"),
        ("#### 8 (with x = 2)", "8"),
        ("#### 8; x = 2", "8"),
        ("#### 25 + 15 = 40 dollars", "40"),
        ("#### Step 1: 3 * 5 = 15\n#### Step 2: 15 + 9 = 24\n\nThe answer is 24.", "24"),
        ("#### Final Answer\n24 pens", "24"),
        ("The answer is 20, which is 4 more than 16.", "20"),
        ("The answer is 20. That took 3 steps.", "20"),
        ("Answer: $20\n\nCheck: 20 - 4 = 16.", "20"),
        ("**Final Answer:** 20\n\n2 rules were used.", "20"),
        ("She gets \\boxed{20} in 3 days.", "20"),
        ("\\boxed{12}. No, wait: \\boxed{20}. (2 tries)", "20"),
        ("So she has **20** apples in 3 baskets.", "20"),
        ("The side is $3\\sqrt{2}$.", "3sqrt(2)"),
        ("They made 3 million dollars.", "3000000"),
        ("She arrives at 4:15.", "4:15"),
        ("The area is 18 m^2.", "18"),
        ("Answer: 16 - 3 = 13 eggs are left. 13 * 2 = 26.", "26"),
    ],
)
def test_the_answer_is_found_among_other_numbers(text, number):
    assert final_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "答案是 25 元，一共 4 天。",
        "答えは25です。3日間。",
        "정답은 25입니다. 3일 동안.",
        "Die Antwort ist 25, in 4 Tagen.",
        "La respuesta es 25, en 3 pasos.",
        "La réponse est 25 (en 3 étapes).",
        "Ответ: 25. Проверка: 5*4=20.",
        "A resposta é 25, em 3 passos.",
        "उत्तर: 25 (3 दिन)",
        "الإجابة هي 25 في 3 أيام",
    ],
)
def test_an_answer_is_announced_in_other_languages(text):
    assert final_number(text) == "25"


def test_words_after_the_mark_that_are_no_number_are_no_answer():
    assert verdict("#### 18", "9 * 2 = 18\n#### I cannot say") == "no_answer"


def test_a_percent_sign_is_a_unit_unless_it_is_to_be_a_share():
    assert verdict("#### 35%", "#### 35") == "right"
    assert verdict("#### 35%", "#### 0.35") == "wrong"
    assert verdict("#### 35%", "#### 0.35", percent="share") == "right"
    assert verdict("#### 35%", "#### 35", percent="share") == "wrong"
    assert verdict("#### 35%", "#### 0.35", percent="either") == "right"
    assert verdict("#### 35%", "#### 35", percent="either") == "right"


def test_units_are_compared_where_asked_for():
    assert verdict("#### 3 m", "#### 3 cm") == "right"
    assert verdict("#### 3 m", "#### 3 cm", units="compared") == "wrong"
    assert verdict("#### 3 meters", "#### 3 meter", units="compared") == "right"
    assert verdict("#### 3 m", "#### 3", units="compared") == "right"


def test_numbers_are_rounded_where_asked_for():
    assert verdict("#### 1/3", "#### 0.33") == "wrong"
    assert verdict("#### 1/3", "#### 0.33", rounding=2) == "right"
    assert verdict("#### 1/3", "#### 0.34", rounding=2) == "wrong"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "part",
    [
        "1.111",
        "1 111 ",
        "9^",
        "(",
        "2 and ",
        "the answer is ",
        "\\boxed{",
        "<s>",
        "x=1,",
        "-",
        "**1",
        "\\(1",
        "$1^",
        "\n",
        "**",
    ],
)
def test_long_texts_take_no_long_time(part):
    assert verdict("#### 1", part * 200_000) in ("right", "wrong", "no_answer")
