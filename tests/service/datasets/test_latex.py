r"""LaTeX whose single backslashes JSON took for escapes: `"\frac"` is a form feed and `rac`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from premem_service.datasets.latex import described, doubled, eaten, may_be_eaten, repaired
from tests.service.datasets.uploading import as_frame, refused, upload


def eaten_of(typed: str, **how: bool) -> list[str]:
    """What is found in a text that was typed into JSON like this."""
    text = json.loads(f'"{typed}"')
    return [described(text, place) for place in eaten(text, **how)]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (r"\boxed{3}", [r"a backspace where \boxed was meant"]),
        (r"half: \frac12", [r"a form feed where \frac was meant"]),
        (r"3 \times 4", [r"a tab where \times was meant"]),
        (r"\rho_0", [r"a carriage return where \rho was meant"]),
        (r"\nabla f", [r"a line break where \nabla was meant"]),
        (r"$x \neq y$", [r"a line break where \neq was meant"]),
        (r"$$\nu = 3$$", [r"a line break where \nu was meant"]),
        (r"\\(a \to b\\)", [r"a tab where \to was meant"]),
        (r"12 \text{cm}", [r"a tab where \text was meant"]),
        (r"$a$$\ne b$", [r"a line break where \ne was meant"]),
    ],
)
def test_a_command_that_lost_its_backslash_is_found(typed: str, found: list[str]):
    assert eaten_of(typed) == found


@pytest.mark.parametrize(
    "typed",
    [
        r"One line.\nTwo lines.",
        r"Let\nu be the speed.",
        r"see\neq. 4",
        r"There\nexists one,\nnot two.",
        r"name\tan old box\r\nangle",
        r"$$\nx = 3\n$$",
        r"$$\nu = 3\n$$",
        r"costs $5\nto make, $6\nto sell",
        r"$x$ is\nu and $y$ is not",
        r"\\frac{1}{2} \\times \\boxed{3}",
        r"\tif x:\n\t\treturn",
        r"\fChapter 2",
    ],
)
def test_a_control_character_that_is_meant_is_let_be(typed: str):
    assert eaten_of(typed) == []


def test_a_final_answer_is_a_formula_as_a_whole():
    assert eaten_of(r"\nu", formula=True) == [r"a line break where \nu was meant"]
    assert eaten_of(r"\nu") == []


def test_a_repair_puts_the_backslash_back_and_counts():
    text = json.loads(r'"We have\n$\frac{1}{2} \times \theta$,\nnot $\nu$."')

    assert repaired(text) == ("We have\n$\\frac{1}{2} \\times \\theta$,\nnot $\\nu$.", 4)


@given(st.text(st.sampled_from("\b\f\n\r\t$\\()aeuiotxqfracnubr{ "), max_size=60))
def test_after_a_repair_there_is_nothing_left_to_repair(text: str):
    mended, count = repaired(text)

    assert (count > 0) == any(True for _ in eaten(text))
    assert may_be_eaten(text) or count == 0
    assert repaired(mended) == (mended, 0)
    assert len(mended) == len(text) + count


@pytest.mark.parametrize(
    ("content", "mended", "count"),
    [
        (rb'{"a": "\alpha \\beta \n \u00e9"}', rb'{"a": "\\alpha \\beta \n \u00e9"}', 1),
        (rb'{"a": "\underline{\sqrt 2} \( x \)"}', rb'{"a": "\\underline{\\sqrt 2} \\( x \\)"}', 4),
        (rb'{"a": "\\\\alpha \""}', rb'{"a": "\\\\alpha \""}', 0),
    ],
)
def test_a_backslash_that_begins_no_escape_is_doubled(content: bytes, mended: bytes, count: int):
    assert doubled(content) == (mended, count)


def test_many_formulas_and_open_delimiters_take_linear_time():
    for text in ("$\nu$" * 20_000, "\\(" * 50_000 + "\nu" * 500, "$" * 50_000 + "\nu" * 500):
        list(eaten(text))  # hours, were each delimiter looked for from every other one


DAMAGED = rb'{"question": "Half of $2 \times 3$?", "answer": "It is $\frac{6}{2}$.\n#### 3"}' + b"\n"


def test_a_damaged_row_is_refused_with_the_offer_to_repair_it(client: TestClient):
    problem = refused(client, b'{"question": "1 + 1?", "answer": "#### 2"}\n' + DAMAGED)

    assert problem["errors"][0]["line"] == 2
    assert problem["errors"][0]["field"] == "question"
    assert r"a tab where \times was meant" in problem["detail"]
    assert "?repair_latex=true" in problem["detail"]
    assert "?repair_latex=false" in problem["detail"]


def test_a_repaired_data_set_says_how_much_and_keeps_the_repaired_rows(client: TestClient):
    dataset = upload(client, DAMAGED, repair_latex="true")

    frame = as_frame(client.get(f"/v1/datasets/{dataset['id']}/rows"))
    assert dataset["repaired"] == 2
    assert frame["question"][0] == r"Half of $2 \times 3$?"
    assert json.loads(frame["columns"][0])["answer"] == "It is $\\frac{6}{2}$.\n#### 3"
    assert client.get(f"/v1/datasets/{dataset['id']}").json()["repaired"] == 2


def test_escapes_that_there_are_not_are_repaired_as_well(client: TestClient):
    row = rb'{"question": "$\alpha + \beta$?", "answer": "#### 2"}'

    detail = refused(client, row)["detail"]
    lines = upload(client, row, repair_latex="true")
    array = upload(client, b"[" + row + b"]", repair_latex="true")

    assert "must be doubled" in detail
    assert "?repair_latex=true" in detail
    assert (lines["repaired"], array["repaired"]) == (2, 2)
    assert lines["id"] == array["id"]


def test_a_row_is_taken_as_it_is_where_that_is_said(client: TestClient):
    dataset = upload(client, DAMAGED, repair_latex="false")

    frame = as_frame(client.get(f"/v1/datasets/{dataset['id']}/rows"))
    assert dataset["repaired"] == 0
    assert frame["question"][0] == "Half of $2 \times 3$?"


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "2 \times 3?"}, {"role": "assistant", "content": "#### 6"}]},
        {"instruction": "Go on.", "input": "2 \times 3", "output": "#### 6"},
        {"question": "6?", "solution": "#### 6", "answer": "2 \times 3"},
    ],
    ids=["messages", "input", "final answer"],
)
def test_every_text_that_is_asked_or_compared_is_looked_at(client: TestClient, row: dict[str, Any]):
    assert r"\times was meant" in refused(client, json.dumps(row).encode())["detail"]
