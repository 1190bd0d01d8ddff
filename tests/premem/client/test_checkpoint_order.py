"""A run's checkpoints in the order in which they were saved, and under names that tell them apart."""

import pytest

from premem.client.checkpoint_order import in_order_of_steps, order_said, unique_names
from premem.errors import InputError


def test_steps_are_numbers_not_words():
    as_a_shell_sorts = ["out/checkpoint-112", "out/checkpoint-28/", "out/checkpoint-56"]

    assert in_order_of_steps(as_a_shell_sorts) == ["out/checkpoint-28/", "out/checkpoint-56", "out/checkpoint-112"]


@pytest.mark.parametrize(
    "expected",
    [
        ["out/epoch_3", "out/epoch_12"],
        ["out/global_step_40", "out/global_step_300"],
        ["out/global_step_40/actor/hf", "out/global_step_300/actor/hf"],
        ["out/iter_0000090", "out/iter_0001200"],
        ["out/step-900", "out/step-1600"],
        ["out/70-steps", "out/600-steps"],
        ["out/1_epoch", "out/2_epochs"],
        ["out/step_9k", "out/step_10k"],
        ["out/checkpoint-75/merged", "out/checkpoint-600/merged"],
        ["out/checkpoint-75-merged-16bit", "out/checkpoint-600-merged-16bit"],
        ["out/epoch=3-step=900-val_loss=0.61.ckpt", "out/epoch=11-step=3000-val_loss=0.47.ckpt"],
        ["org/model@step512", "org/model@step1000"],
        ["out/30000", "out/0200000"],
        ["out/3b-model-7", "out/3b-model-12"],
    ],
)
def test_the_step_is_found_wherever_the_path_says_it(expected):
    assert in_order_of_steps(expected) == expected
    assert in_order_of_steps(expected[::-1]) == expected


def test_epochs_outrank_the_steps_counted_within_them():
    given = ["out/epoch_2/step_5", "out/epoch_1/step_90", "out/epoch_1/step_100"]

    assert in_order_of_steps(given) == ["out/epoch_1/step_90", "out/epoch_1/step_100", "out/epoch_2/step_5"]


@pytest.mark.parametrize("last", ["out/final", "out/checkpoint-last", "out/final_model/merged", "out", "out/"])
def test_what_is_saved_at_the_end_comes_behind_all_numbers(last):
    given = [last, "out/checkpoint-30", "out/checkpoint-4"]

    assert in_order_of_steps(given) == ["out/checkpoint-4", "out/checkpoint-30", last]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["b/checkpoint-2", "a/checkpoint-1"], "do not look like one run's"),
        (["seed-1/checkpoint-10", "seed-2/checkpoint-5"], "do not look like one run's"),
        (["seed-1/model", "seed-2/model"], "no order can be read"),
        (["out/step-20", "out/epoch-1"], "has no number of 'epoch'"),
        (["out/epoch-1", "out/epoch-1-step-50", "out/epoch-2"], "has no number of 'step'"),
        (["meta/model-b", "meta/model-a"], "no order can be read"),
        (["meta/model-b", "meta/model-b"], "no order can be read"),
        (["out", "out/model"], "no order can be read"),
        (["out/checkpoint-10", "elsewhere/final"], "has no number of 'checkpoint'"),
        (["out/checkpoint-10", "out/final", "out"], "may each be the last"),
        (["out/checkpoint-9", "out/checkpoint-10", "out/checkpoint-10-merged"], "are of the same step"),
        (["out/checkpoint-9", "out/best", "out/checkpoint-10"], "out/best is a copy of one of the other"),
    ],
)
def test_where_no_order_can_be_read_it_is_asked_for(given, why):
    with pytest.raises(InputError, match=rf"{why}.*--keep-order"):
        in_order_of_steps(given)


def test_one_checkpoint_needs_no_order():
    assert in_order_of_steps(["out/best"]) == ["out/best"]


def test_another_order_than_the_given_one_is_said_in_a_line():
    given = ["out/checkpoint-10/merged", "out/checkpoint-9/merged"]

    assert order_said(given, given) is None
    assert order_said(given, in_order_of_steps(given)) == (
        "checkpoints in the order of their steps: checkpoint-9/merged, checkpoint-10/merged"
    )


def test_names_are_as_short_as_can_be():
    assert unique_names(["/runs/a/checkpoint-1", "/runs/a/checkpoint-2"]) == ["checkpoint-1", "checkpoint-2"]
    assert unique_names(["/runs/a/final", "/runs/b/final"]) == ["a/final", "b/final"]
