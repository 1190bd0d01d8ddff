"""Which template a run's job gets, and what the training log says of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from premem.errors import InputError
from premem.training.agreement import Look, agreed
from premem.training.forms import Forms
from premem.wire.jobs import Sampling, Template
from tests.checkpoints import EOS, make_tokenizer
from tests.premem.training.test_forms import ROWS, chat, completed, paper, tokenizer, whole

__all__ = ["tokenizer"]


def service(rows=ROWS, chats=0):
    """One that shows these rows of its data set."""
    shown = [SimpleNamespace(prompt=row.question, target=row.trace) for row in rows]
    preview = SimpleNamespace(rows=shown, dataset=SimpleNamespace(chats=chats))
    return SimpleNamespace(preview=lambda dataset, **asked: preview)


def agree(tokenizer, write, *, given=None, sampling=None, client=None):
    look = Look(Forms(tokenizer), [write(row) for row in ROWS])
    return agreed(look, client or service(), "ds_1", given=given, sampling=sampling or Sampling())


def test_of_the_papers_form_nothing_is_said(tokenizer):
    found = agree(tokenizer, paper)

    assert found.template == Template()
    assert found.remarks == []


def test_another_form_is_taken_from_the_rows_and_said(tokenizer):
    found = agree(tokenizer, lambda row: chat(row, system="Be brief."))

    assert found.template == Template(chat=True, system="Be brief.")
    assert found.remarks == ["as this run's rows are written, template={'chat': True, 'system': 'Be brief.'}"]


def test_a_given_template_is_kept_and_its_fault_is_said_with_what_to_set(tokenizer):
    found = agree(tokenizer, chat, given=Template())

    assert found.template == Template()
    [remark] = found.remarks
    assert "the paper's template does not give what this run trains on" in remark
    assert remark.endswith("set template={'chat': True}")


def test_a_given_template_that_fits_says_nothing(tokenizer):
    assert agree(tokenizer, chat, given=Template(chat=True)).remarks == []


@pytest.mark.parametrize("given", [None, Template(chat=True)])
def test_a_form_that_no_template_gives_is_refused(tokenizer, given):
    flat = [type(row)(f"user: Hello\n\nassistant: Hm.\n\nuser: {row.question}", row.trace) for row in ROWS]

    with pytest.raises(InputError, match=r"does not give|no template gives") as refused:
        agree(
            tokenizer, lambda row: chat(row, before=f"Of {row.trace[:8]}"), given=given, client=service(flat, chats=3)
        )
    assert "3 rows hold earlier turns or a system message" in str(refused.value)


def test_sampling_stops_where_the_trained_texts_end(tokenizer):
    found = agree(tokenizer, lambda row: whole(f"Q: {row.question}\nA: {row.trace}\n###"))
    asked = agree(
        tokenizer, lambda row: whole(f"Q: {row.question}\nA: {row.trace}\n###"), sampling=Sampling(stop=["."])
    )
    ended = agree(tokenizer, lambda row: completed(f"Q: {row.question}\nA:", f" {row.trace}{EOS}"))

    assert found.stop == ["\n###"]
    assert len(found.remarks) == 1
    assert asked.stop is None
    assert "no end of an answer is trained on" in asked.remarks[-1]
    assert ended.stop is None
    assert len(ended.remarks) == 1


def test_rows_that_are_not_found_leave_the_form_unknown_and_that_is_said(tokenizer):
    found = agree(tokenizer, lambda row: whole("Something else entirely."))

    assert found.template == Template()
    assert "none of the first 3 rows of ds_1 was found among 3 rows" in found.remarks[0]


def test_a_run_without_a_tokenizer_is_not_looked_at():
    look = Look.at(SimpleNamespace(dataset=[{}], collate_fn=None), None)

    [remark] = agreed(look, service(), "ds_1", given=None, sampling=Sampling()).remarks

    assert remark.startswith("the Trainer has no tokenizer as its processing_class")


def test_a_look_leaves_the_tokenizer_of_the_run_alone():
    tokenizer = make_tokenizer()
    rows = [{"input_ids": [1, 5], "labels": [1, 5]}]

    look = Look.at(
        SimpleNamespace(dataset=rows, collate_fn=lambda batch: {k: [v] for k, v in batch[0].items()}), tokenizer
    )

    assert look.rows[0].tokens == (1, 5)
    assert tokenizer.model_max_length == 1024
