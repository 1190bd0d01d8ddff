"""Rows of a training DataLoader, read beside it."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from premem.errors import InputError
from premem.training.trained import MASKED, TrainedRow, trained_rows


def collate(rows):
    """Pads to eight, masks what pads and the first token."""
    ids = [row["ids"] + [0] * (8 - len(row["ids"])) for row in rows]
    kept = [[1] * len(row["ids"]) + [0] * (8 - len(row["ids"])) for row in rows]
    labels = [[MASKED, *row["ids"][1:]] + [MASKED] * (8 - len(row["ids"])) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(kept), "labels": torch.tensor(labels)}


def test_rows_are_as_the_collator_makes_them_without_what_pads():
    loader = SimpleNamespace(dataset=[{"ids": [5, 6, 7]}, {"ids": [8, 9]}], collate_fn=collate)

    assert trained_rows(loader) == [TrainedRow((5, 6, 7), (MASKED, 6, 7)), TrainedRow((8, 9), (MASKED, 9))]


def test_texts_packed_into_a_row_begin_where_positions_do():
    def packed(rows):
        return {"input_ids": [[5, 6, 8, 9]], "labels": [[MASKED, 6, MASKED, 9]], "position_ids": [[0, 1, 0, 1]]}

    [row] = trained_rows(SimpleNamespace(dataset=[{}], collate_fn=packed))

    assert row.starts == {0, 2}


class Drawing:
    """A data set and a collator that draw from every generator there is, and change the rows that they are given."""

    def __init__(self):
        self.own = torch.Generator().manual_seed(1)
        self.numpy = np.random.default_rng(1)
        self.python = random.Random(1)
        self.rows = [{"ids": [5, 6]}] * 3

    def __len__(self):
        return 3

    def __getitem__(self, place):
        self.draws()
        return self.rows[place]

    def __call__(self, rows):
        self.draws()
        return collate([{"ids": rows[0].pop("ids")}])

    def draws(self):
        own = torch.rand(1, generator=self.own).item(), self.numpy.random(), self.python.random()
        return [*own, torch.rand(1).item(), np.random.rand(), random.random()]


def test_the_run_draws_afterwards_what_it_would_have_drawn():
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(7)
    expected = Drawing().draws()
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(7)
    drawing = Drawing()

    assert len(trained_rows(SimpleNamespace(dataset=drawing, collate_fn=drawing))) == 3
    assert drawing.draws() == expected
    assert drawing.rows[0] == {"ids": [5, 6]}


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        raise AssertionError("its rows are the run's")


def fails(rows):
    raise KeyError("text")


@pytest.mark.parametrize(
    ("dataset", "collator", "why"),
    [
        (Stream(), collate, "a stream, of which reading would take rows away"),
        ([{"ids": [5]}], fails, "cannot be read: KeyError: 'text'"),
        ([{"ids": [5]}], lambda rows: {"input_ids": [[5]]}, "no input_ids and labels"),
        (None, None, "names no data set"),
    ],
)
def test_what_cannot_be_read_without_harm_is_left_and_said(dataset, collator, why):
    with pytest.raises(InputError, match=why):
        trained_rows(SimpleNamespace(dataset=dataset, collate_fn=collator))


def test_a_stream_that_can_be_read_again_is_read_from_its_beginning():
    from datasets import Dataset

    stream = Dataset.from_list([{"ids": [5, 6]}, {"ids": [7]}]).to_iterable_dataset()

    assert [row.tokens for row in trained_rows(SimpleNamespace(dataset=stream, collate_fn=collate))] == [(5, 6), (7,)]
    assert [row["ids"] for row in stream] == [[5, 6], [7]]
