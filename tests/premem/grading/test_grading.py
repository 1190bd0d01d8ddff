"""What each grader finds in a text, and what it says of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem.errors import GraderError
from premem.grading import get_grader, grader_names
from premem.grading.gsm8k import final_number
from premem.grading.reading.latex import final_answer, last_boxed
from premem.records import Grade
from premem.wire.bodies import GraderChoice

REAL = Path(__file__).parents[3] / "../shared/data"


def grade(name, reference, answer, **options):
    return get_grader(GraderChoice(name=name, options=options)).grade(reference, answer)


def verdict(name, reference, answer, **options):
    return grade(name, reference, answer, **options).verdict


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("48/2 = 24 clips.\n#### 72", "72"),
        ("#### 1\n#### 72", "72"),
        ("####72", "72"),
        ("#### $1,080.00 a day", "1080"),
        ("#### 109,200,000", "109200000"),
        ("#### 12,34,567 rupees", "1234567"),
        (r"#### 1{,}080", "1080"),
        ("#### 1\u202f080", "1080"),
        ("#### 72.", "72"),
        ("#### 72.00", "72"),
        ("#### 007", "7"),
        ("#### .5", "0.5"),
        ("#### -5", "-5"),
        ("#### -$5.50", "-5.5"),
        ("#### $-5.50", "-5.5"),
        ("#### −5", "-5"),
        ("#### -0.0", "0"),
        ("#### 10%", "10"),
        ("#### €3", "3"),
        ("#### 5 apples and 3 oranges", "5"),
        ("#### 4 * 18 = 72", "72"),
        ("#### 72 = x", "72"),
        ("#### <<48+24=72>>72", "72"),
        ("#### 1.5e3", "1500"),
        ("#### 2e999999", "2e999999"),
        ("#### 1/2", "0.5"),
        (r"#### \frac{1}{2}", "0.5"),
        ("#### 2/6", "1/3"),
        ("#### 3 1/2", "3.5"),
        (r"#### 3\frac{1}{2}", "3.5"),
        ("on 1/2/2020", "2020"),
        ("5/0", "5/0"),
        ("pages 3-5", "5"),
        ("10-5=5", "5"),
        ("It is 7 in all, so 72 ####", "72"),
        ("She has 3 and then 1,080.50", "1080.5"),
        ("So 2 3/4", "2.75"),
        ("#### ", None),
        ("I do not know.", None),
        ("", None),
    ],
)
def test_gsm8k_finds_the_number(text, number):
    assert final_number(text) == number


def test_gsm8k_compares_exactly():
    assert verdict("gsm8k", "#### 0.1", "#### 0.10000000000000000001") == "wrong"
    assert verdict("gsm8k", "#### 1/3", "#### 0.3333333333333333") == "wrong"
    assert verdict("gsm8k", "#### 9007199254740993", "#### 9007199254740992") == "wrong"


def test_reference_may_be_a_bare_final_answer():
    assert grade("gsm8k", "72", "48 + 24 = 72\n#### 72") == Grade("right", "72")


@pytest.mark.parametrize("name", ["gsm8k", "math", "choice", "exact", "authors"])
def test_reference_without_a_final_answer_makes_no_answer_right(name):
    assert verdict(name, "", "#### 72 \\boxed{72} (B)") == "no_answer"


@pytest.mark.parametrize("name", ["gsm8k", "math", "choice"])
def test_text_without_a_final_answer_is_no_answer(name):
    assert grade(name, "#### 72 \\boxed{72} (B)", "Well, let me think about it") == Grade("no_answer", None)


def test_long_final_answer_is_compared_whole_but_shown_cut():
    found = grade("gsm8k", "1" * 5000 + "2", "#### " + "1" * 5000 + "3")

    assert found.verdict == "wrong"
    assert found.extracted == "1" * 999 + "…"


def gsm8k_traces():
    path = REAL / "gsm8k/train.jsonl"
    if not path.exists():
        pytest.skip("GSM8K's train.jsonl is not on this machine")
    return [json.loads(line)["answer"] for line in path.read_text().splitlines()]


def test_every_gsm8k_trace_grades_right_against_itself():
    traces = gsm8k_traces()

    ungradable = [trace for trace in traces if verdict("gsm8k", trace, trace) != "right"]

    assert len(traces) == 7473
    assert ungradable == []


@pytest.mark.parametrize("rate", ["2e-05", "5e-05"])
def test_authors_rejects_the_traces_that_the_paper_s_code_rejects(rate):
    traces = gsm8k_traces()
    run = REAL / f"recorded-runs/gsm8k_orig_6epochs_full_lr{rate}_bs128/checkpoint-348"
    if not run.exists():
        pytest.skip("the authors' recorded runs are not on this machine")
    (recorded,) = run.glob("train_answer_types*.npy")
    by_heart = np.load(run / "train_perplexities.npy") < 1.005  # whatever is sampled there is the trace itself
    always_wrong = np.flatnonzero(by_heart & (np.load(recorded) == 1).all(axis=1))

    rejected = [row for row, trace in enumerate(traces) if verdict("authors", trace, trace) != "right"]

    assert by_heart.sum() > 6700
    assert rejected == always_wrong.tolist() == [1297, 5415]


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        (r"so \boxed{3} and \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{\boxed{3}}", r"\boxed{3}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\fbox{3}", "3"),
        (r"$\boxed 3$", "3"),
        (r"\boxed{3} or \boxed{\frac{1}{2", "3"),
        (r"\boxed{3", None),
        ("3", None),
    ],
)
def test_last_balanced_box_is_found(text, formula):
    assert last_boxed(text) == formula


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        (r"\boxed{ \dfrac12. }", r"\frac12"),
        ("3 + 4\n#### 7", "7"),
        ("First we add.\nThe answer is $x^2$.", "x^2"),
        (r"Answer: \(x^2\) because it is", "x^2"),
        ("The answer is 3.5. We are done.", "3.5"),
        (r"\frac{1}{2}", r"\frac{1}{2}"),
        (r"\left(3, \frac{\pi}{2}\right)", r"(3, \frac{\pi}{2})"),
        (r"\text{the right angle at A}", r"\text{the right angle at A}"),
        ("First we compute 3 + 4", None),
        ("3 + 4\n= 7", None),
        (r"\boxed{}", None),
    ],
)
def test_final_formula_is_found(text, formula):
    assert final_answer(text) == formula


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        (r"\boxed{\frac{1}{2}}", r"\boxed{0.5}", "right"),
        (r"\boxed{\frac{x}{2}+1}", r"\boxed{1+0.5x}", "right"),
        (r"\boxed{(1,2)}", r"\boxed{(2,1)}", "wrong"),
        (r"\boxed{\{1,2\}}", r"\boxed{\{2,1\}}", "right"),
        (r"\boxed{x=5}", r"\boxed{5}", "right"),
        (r"\boxed{5}", r"\boxed{6}", "wrong"),
        (r"\boxed{\$1,\!080}", r"\boxed{1080}", "right"),
        ("72", r"\boxed{72.0}", "right"),
        (r"\boxed{\text{Yes}}", r"\boxed{\text{Yes}}", "right"),
    ],
)
def test_math_knows_equal_from_different(reference, answer, expected):
    assert verdict("math", reference, answer) == expected


def test_math_takes_the_reference_for_the_gold():
    assert verdict("math", r"\boxed{5}", r"\boxed{x=5}") == "right"
    assert verdict("math", r"\boxed{1<x<2}", r"\boxed{(1,2)}") == "right"
    assert verdict("math", r"\boxed{(1,2)}", r"\boxed{1<x<2}") == "wrong"


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("B) 72", "B"),
        ("#### B", "B"),
        (r"\boxed{\text{(B)}}", "B"),
        ("The answer is (B), not (C).", "B"),
        ("Answer: **B**", "B"),
        ("answer is b.", "B"),
        ("The correct option is C because A is too small", "C"),
        ("(A) is too small, so (B)", "B"),
        ("It must be B.", "B"),
        ("The answer is a dog", None),
        ("Because of f(a)", None),
        ("the answer is 72", None),
        ("(F)", None),
    ],
)
def test_choice_finds_the_letter(text, letter):
    found = grade("choice", "B", text)

    assert found.extracted == letter
    assert found.verdict == ("no_answer" if letter is None else "right" if letter == "B" else "wrong")


def test_choice_takes_other_letters():
    assert verdict("choice", "F", "(F)", letters="ABCDEF") == "right"


def test_exact_compares_characters():
    assert verdict("exact", "Paris", " Paris\n") == "right"
    assert verdict("exact", "Paris", "paris") == "wrong"
    assert verdict("exact", "Paris", "paris", ignore_case=True) == "right"
    assert verdict("exact", "Paris", "Paris ", strip=False) == "wrong"
    assert verdict("exact", "a b", "a \n b", collapse_spaces=True) == "right"
    assert verdict("exact", "Paris", "   ") == "no_answer"


def test_exact_takes_what_follows_the_mark():
    assert grade("exact", "so #### Rome", "or #### Oslo #### Rome", after="####") == Grade("right", "Rome")
    assert verdict("exact", "Rome", "so #### Rome", after="####") == "right"
    assert verdict("exact", "Rome", "Rome", after="####") == "no_answer"


def test_regex_takes_the_last_match():
    pattern = r"so (\w+)"

    assert grade("regex", "so Oslo, so Rome", "so Rome", pattern=pattern) == Grade("right", "Rome")
    assert verdict("regex", "Rome", "so Oslo", pattern=pattern) == "wrong"
    assert verdict("regex", "Rome", "Rome", pattern=pattern) == "no_answer"
    assert verdict("regex", "ROME", "SO rome", pattern=pattern, ignore_case=True) == "right"


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        ("so\n#### 72", " so\n#### 72", "right"),
        ("#### 1,080", "#### 1080", "right"),
        ("#### 72", "#### 72.", "wrong"),
        ("#### 72", "#### $72", "wrong"),
        ("#### 72", "#### 72 clips", "wrong"),
        ("#### 72", "#### 72\n", "right"),
        ("#### 72", "#### 7\n#### 72", "wrong"),
        ("#### 72", "The answer is: $72.", "right"),
        ("#### 72", r"#### 7 The answer is: \boxed{72}", "right"),
        ("#### 72", "it is 72", "wrong"),
        ("#### 0.5", "#### 1/2", "right"),
        ("72", "#### 72", "right"),
    ],
)
def test_authors_compare_strings_on_gsm8k(reference, answer, expected):
    assert verdict("authors", reference, answer) == expected


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        (r"\boxed{\frac{1}{2}}", r"so \boxed{\dfrac12}", "right"),
        (r"\boxed{\frac{3}{4}}", r"\boxed{3/4}", "right"),
        (r"\boxed{\frac{1}{2}}", r"\boxed{.5}", "right"),
        (r"\boxed{\sqrt{3}}", r"\boxed{\sqrt3}", "right"),
        (r"\boxed{5}", r"\boxed{x=5}", "right"),
        (r"\boxed{90}", r"\boxed{90^\circ}", "right"),
        (r"\boxed{5}", r"\boxed{5\text{ cm}}", "right"),
        (r"\boxed{x+1}", r"\boxed{1+x}", "wrong"),
        (r"\boxed{5}", "The answer is 5.", "right"),
        (r"\boxed{5}", r"\boxed{5", "no_answer"),
        (r"\boxed{5}", "it must be five", "no_answer"),
    ],
)
def test_authors_compare_strings_on_math(reference, answer, expected):
    assert verdict("authors", reference, answer, task="math") == expected


# Properties


@st.composite
def written_numbers(draw):
    """Hundredths, and two ways of writing them."""
    hundredths = draw(st.integers(-(10**15), 10**15))
    return hundredths, draw(st.permutations(_spellings(hundredths)))[:2]


def _spellings(hundredths):
    sign, (whole, part) = "-" if hundredths < 0 else "", divmod(abs(hundredths), 100)
    spelled = [
        f"{sign}{whole}.{part:02}",
        f"{sign}{whole:,}.{part:02}00",
        f"{sign}${whole:,}.{part:02} dollars.",
        f"{sign}{abs(hundredths)}/100",
        f"{sign}{abs(hundredths)}e-2",
        f"{sign}000{whole}.{part:02}.",
    ]
    if part == 0:
        spelled += [f"{sign}{whole}", f"{sign}{whole:,}", f"{sign}{whole}%"]
    if part % 10 == 0:
        spelled += [f"{sign}{whole}.{part // 10}"]
    return spelled


@given(written_numbers(), st.text())
def test_how_a_number_is_written_changes_no_verdict(written, working):
    _, (one, other) = written

    assert verdict("gsm8k", f"{working}\n#### {one}", f"{working}\n#### {other}") == "right"


@given(written_numbers(), written_numbers())
def test_different_numbers_are_never_right(one, other):
    expected = "right" if one[0] == other[0] else "wrong"

    assert verdict("gsm8k", f"#### {one[1][0]}", f"#### {other[1][0]}") == expected


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 1000))
def test_fractions_are_compared_by_value(over, under, factor):
    assert verdict("gsm8k", f"#### {over}/{under}", f"#### {over * factor}/{under * factor}") == "right"


ANYTHING = st.text(st.characters()) | st.text(st.sampled_from(r"0123456789.,/-eE$%#=\{}() abBoxed" + "\ud800\u202f"))
"""Lone surrogates too: a program may read them from JSON."""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gsm8k", {}),
        ("choice", {}),
        ("exact", {"after": "#"}),
        ("regex", {"pattern": "([0-9]+)"}),
        ("authors", {}),
        ("authors", {"task": "math"}),
    ],
)
@given(reference=ANYTHING, answer=ANYTHING)
def test_no_text_makes_a_grader_raise(name, options, reference, answer):
    assert verdict(name, reference, answer, **options) in ("right", "wrong", "no_answer")


@given(reference=ANYTHING, answer=ANYTHING)
def test_no_text_makes_math_raise_before_its_process(reference, answer):
    math = get_grader(GraderChoice(name="math"))

    assert math.at_once(reference, answer) is None or math.at_once(reference, answer).verdict != "timeout"


@given(ANYTHING)
def test_whatever_has_a_final_answer_is_right_against_itself(text):
    for name in ("gsm8k", "choice", "exact"):
        assert verdict(name, text, text) in ("right", "no_answer")


# Choosing a grader


def test_all_graders_are_listed():
    assert {"authors", "choice", "exact", "gsm8k", "math", "regex"} <= set(grader_names())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gsm9k", {}, "no grader is named 'gsm9k'; there are authors, choice, exact, gsm8k, math, regex"),
        ("gsm8k", {"strict": True}, "grader 'gsm8k': strict is no option of it (options: percent, units, rounding)"),
        ("exact", {"case": 1}, "case is no option of it (options: ignore_case, strip, collapse_spaces, after)"),
        ("exact", {"strip": "maybe"}, "strip Input should be a valid boolean"),
        ("choice", {"letters": "ab"}, "letters Value error, must be different upper-case letters"),
        ("regex", {}, "pattern is an option that it needs"),
        ("regex", {"pattern": "("}, "no Python pattern: missing )"),
        ("regex", {"pattern": "(a)(b)"}, "must have one group"),
        ("authors", {"task": "mmlu"}, "task Input should be 'gsm8k' or 'math'"),
    ],
)
def test_wrong_choice_says_what_there_is(name, options, message):
    with pytest.raises(GraderError) as error:
        get_grader(GraderChoice(name=name, options=options))

    assert message in str(error.value)
