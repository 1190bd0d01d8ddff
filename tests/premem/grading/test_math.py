"""What math takes for a text's final answer, and which of these it calls equal."""

import pytest

from premem.grading import get_grader
from premem.grading.reading.formulas import normal
from premem.grading.reading.latex import all_boxed, final_answer
from premem.wire.bodies import GraderChoice


def verdict(reference, answer, **options):
    return get_grader(GraderChoice(name="math", options=options)).grade(reference, answer).verdict


def boxed(formula):
    return f"\\boxed{{{formula}}}"


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        (r"\frac{2}{3}", r"0.\overline{6}"),
        (r"\frac{5}{6}", "0.8333..."),
        (r"\frac{1}{7}", "0.(142857)"),
        (r"\frac{7}{2}", "3 1/2"),
        (r"\frac{7}{2}", "3½"),
        (r"60^\circ", "60°"),
        ("60°", "60 degrees"),
        ("1000000", "1 000 000"),
        (r"1,\! 000,\! 000", "1000000"),
        ("12000", "12'000"),
        (r"2 \times 10^{-8}", "0.00000002"),
        (r"1, 3, 5, \ldots, 99", r"1, 3, \dots, 99"),
        ("[1, 4)", r"1 \le x < 4"),
        (r"(-\infty, 5)", "x < 5"),
        (r"(-\infty,-1)\cup(1,\infty)", r"x<-1 \text{ or } x>1"),
        ("x < -1 or x > 1", "(−∞,−1) ∪ (1,∞)"),
        ("1011_2", "1011₂"),
        ("2143_5", r"2143_{\text{five}}"),
        (r"3\sqrt{7}", "3√7"),
        (r"\sqrt[3]{5}", "∛5"),
        (r"[4,\infty)", "[4, ∞)"),
        ("x^3-1", "x³-1"),
        (r"\emptyset", "∅"),
        (r"\varnothing", r"\emptyset"),
        ("(5,6)", "（5，6）"),
        ("-8", "–8"),
        (r"\pm 3", "±3"),
        (r"\frac{\pi}{6}", "π/6"),
        ("e^3", r"\mathrm{e}^3"),
        (r"e^{i\pi/2}", "i"),
        ("ad+bc", "bc+da"),
        (r"42\%", "42 percent"),
        (r"\text{Friday}", r"\textbf{Friday}"),
        (r"\text{odd}", "odd"),
        ("1 and 2", "2, 1"),
    ],
)
def test_two_ways_to_write_a_formula_are_one(reference, answer):
    assert verdict(boxed(reference), boxed(answer)) == "right"


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        (r"\frac{2}{3}", r"0.\overline{7}"),
        ("3", "3 1/2"),
        ("60°", "61°"),
        (r"2 \times 10^{-8}", r"3 \times 10^{-8}"),
        (r"\frac{1}{20!}", r"\frac{1}{21!}"),
        ("10^{-10}", "10^{-11}"),
        ("0.0000003", "0.0000004"),
        ("0", "0.0000001"),
        (r"1, 2, 4, \ldots, 2^n", r"1, 3, 9, \ldots, 3^n"),
        (r"2, 4, 6, \ldots", r"2, 4, 8, \ldots"),
        (r"(-\infty, 5]", "x < 5"),
        ("(1,2)", "1<x<2"),
        (r"(-\infty,-1)\cup(1,\infty)", r"x<-1 \text{ or } x>2"),
        ("1011_2", "1011_3"),
        ("2143_5", "2144_5"),
        (r"\sqrt{7}", "√8"),
        ("x^2", "x³"),
        ("25", "２６"),
        (r"e^{i\pi/3}", r"\frac12-\frac{\sqrt3}2i"),
        ("7:45", "7:30"),
        (r"\text{Friday}", "Monday"),
    ],
)
def test_formulas_that_only_look_alike_differ(reference, answer):
    assert verdict(boxed(reference), boxed(answer)) == "wrong"


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("We sum.\nThe answer is 7, which is prime.", "7"),
        ("The final answer is **(3, 4)**.", "(3, 4)"),
        ("**Answer**: $7$", "7"),
        ("**Final Answer**\n\n7", "7"),
        ("## Final Answer\n\n$x^2$", "x^2"),
        ("The answer is\n\\[\nx^2\n\\]", "x^2"),
        ("The answer is $x=2$ or $x=3$.", "x=2, x=3"),
        ("求和。\n所以答案是 $7$。", "7"),
        ("答案：x+1", "x+1"),
        ("Die Antwort ist $x^2$.", "x^2"),
        ("<think>\\boxed{5}</think><answer>\n\\frac{1}{2}\n</answer>", r"\frac{1}{2}"),
        ("<think>\\boxed{5}</think>\nThe answer is 7.", "7"),
        ("<think>\\boxed{5}", None),
        ("So $x=\\boxed{4}$ or $x=\\boxed{9}$.", "4, 9"),
        ("\\boxed{4}. But that is wrong. \\boxed{9}", "9"),
        ("\\boxed{9}, in \\boxed{} as asked", "9"),
        ("We count.\nTherefore, $x = 7$.", "x = 7"),
    ],
)
def test_the_final_formula_is_found(text, formula):
    assert final_answer(text) == formula


def test_all_boxes_of_a_reference_are_its_answer():
    reference = "(a) We get \\boxed{4}. Next we add one. (b) So it is \\boxed{9}."

    assert all_boxed(reference) == "4, 9"
    assert verdict(reference, boxed("9")) == "wrong"
    assert verdict(reference, "(a) is \\boxed{4}. We add one again. (b) is \\boxed{9}.") == "right"
    assert verdict("\\boxed{4}, so again \\boxed{4}", boxed("4")) == "right"


def test_parts_in_boxes_far_apart_are_one_answer():
    assert verdict(boxed("4, 9"), "The first is \\boxed{4}.\n\nThe second is \\boxed{9}.") == "right"
    assert verdict(boxed("4"), "The first is \\boxed{4}.\n\nThe second is \\boxed{9}.") == "wrong"


def test_a_percent_is_its_share_and_its_number_unless_told():
    assert verdict(boxed("42\\%"), boxed("42")) == "right"
    assert verdict(boxed("42\\%"), boxed("0.42")) == "right"
    assert verdict(boxed("42\\%"), boxed("42"), percent="share") == "wrong"
    assert verdict(boxed("42\\%"), boxed("0.42"), percent="share") == "right"
    assert verdict(boxed("42\\%"), boxed("0.42"), percent="unit") == "wrong"
    assert verdict(boxed("42\\%"), boxed("42"), percent="unit") == "right"


def test_units_are_compared_where_asked_for():
    assert verdict(boxed("3\\text{ m}"), boxed("3\\text{ cm}")) == "right"
    assert verdict(boxed("3\\text{ m}"), boxed("3\\text{ cm}"), units="compared") == "wrong"
    assert verdict(boxed("3\\text{ m}"), boxed("3"), units="compared") == "right"


def test_decimals_are_rounded_where_asked_for():
    assert verdict(boxed("\\frac{100}{3}"), boxed("33.3")) == "wrong"
    assert verdict(boxed("\\frac{100}{3}"), boxed("33.3"), rounding=1) == "right"
    assert verdict(boxed("\\frac{100}{3}"), boxed("33.4"), rounding=1) == "wrong"


def test_formulas_are_written_one_way():
    assert normal("(−∞,−1) ∪ (1,∞)") == r"(-\infty ,-1) \cup  (1,\infty )"
    assert normal("10\\,000") == "10000"
    assert normal("\\frac12") == "\\frac{1}{2}"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "part", ["\\boxed{", "\\boxed{1} ", "the answer is ", "\\(1", "$1", "1,", "{", "<think>", "**1", "\\text{"]
)
def test_long_texts_take_no_long_time_before_algebra(part):
    math = get_grader(GraderChoice(name="math"))

    grade = math.at_once("\\boxed{x}", part * 100_000)

    assert grade is None or grade.verdict != "right"
