"""A line in, a line out."""

import io
import json

import pytest

from premem.errors import GraderError, RowsError
from premem.grading.command import grade_stream
from premem.wire.bodies import GraderChoice


def run(lines, *, grader=None, jobs=1):
    out = io.StringIO()
    counts = grade_stream(lines, out, grader=grader or GraderChoice(), jobs=jobs)
    return counts, [json.loads(line) for line in out.getvalue().splitlines()]


def row(reference, answer):
    return json.dumps({"reference": reference, "answer": answer}) + "\n"


def test_each_line_gets_its_grade_in_order():
    counts, grades = run([row("72", "#### 72"), row("72", "#### 71"), "\n", row("72", "well")])

    assert grades == [
        {"verdict": "right", "extracted": "72"},
        {"verdict": "wrong", "extracted": "71"},
        {"verdict": "no_answer", "extracted": None},
    ]
    assert counts == {"right": 1, "wrong": 1, "no_answer": 1}


def test_order_holds_over_many_processes():
    lines = [row(r"\boxed{x+1}", rf"\boxed{{{n % 3}+x}}") for n in range(30)]

    _, grades = run(lines, grader=GraderChoice(name="math"), jobs=2)

    assert [grade["verdict"] for grade in grades] == ["wrong", "right", "wrong"] * 10


def test_bytes_are_read_as_utf8():
    _, grades = run([json.dumps({"reference": "é", "answer": "é"}, ensure_ascii=False).encode()], grader=EXACT)

    assert grades == [{"verdict": "right", "extracted": "é"}]


def test_lone_surrogate_goes_through():
    _, grades = run(['{"reference": "\\ud800", "answer": "\\ud800"}'], grader=EXACT)

    assert grades == [{"verdict": "right", "extracted": "\ud800"}]


EXACT = GraderChoice(name="exact")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"reference": "7"', "line 2: no JSON"),
        ('["7", "7"]', 'line 2: no JSON object: write {"reference": "…", "answer": "…"}'),
        ('{"reference": "7"}', "line 2, answer: is missing"),
        ('{"reference": 7, "answer": "7"}', 'line 2, reference: is 7, not a text: put it in "quotes"'),
        (b'{"reference": "\xff"}', "line 2: not UTF-8"),
        ("[" * 200_000, "line 2: no JSON"),
        ('{"answer": ' + "9" * 10_000 + "}", "line 2: no JSON"),
    ],
)
def test_bad_line_is_named_after_the_lines_before_it_are_graded(line, message):
    out = io.StringIO()

    with pytest.raises(RowsError) as error:
        grade_stream([row("7", "7"), line, row("7", "7")], out, grader=GraderChoice(), jobs=1)

    assert str(error.value).startswith(message)
    assert [bad.line for bad in error.value.lines] == [2]
    assert out.getvalue() == '{"verdict": "right", "extracted": "7"}\n'


def test_text_stream_that_is_not_utf8_names_its_line():
    stream = io.TextIOWrapper(io.BytesIO(row("7", "7").encode() * 3 + b"\xff\n"), encoding="utf-8")

    with pytest.raises(RowsError, match="not UTF-8"):
        grade_stream(stream, io.StringIO(), grader=GraderChoice(), jobs=1)


def test_unknown_grader_is_told_before_anything_is_written():
    out = io.StringIO()

    with pytest.raises(GraderError, match="no grader is named 'gsm9k'"):
        grade_stream([row("7", "7")], out, grader=GraderChoice(name="gsm9k"), jobs=1)

    assert out.getvalue() == ""
