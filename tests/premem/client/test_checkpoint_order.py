"""A run's checkpoints in the order in which they were saved, and under names that tell them apart."""

import pytest

from premem.client.checkpoint_order import in_order_of_steps, unique_names


def test_steps_are_numbers_not_words():
    as_a_shell_sorts = ["out/checkpoint-112", "out/checkpoint-28/", "out/checkpoint-56"]

    assert in_order_of_steps(as_a_shell_sorts) == ["out/checkpoint-28/", "out/checkpoint-56", "out/checkpoint-112"]


@pytest.mark.parametrize(
    "given",
    [
        ["out/checkpoint-20", "out/final", "out/checkpoint-10"],
        ["b/checkpoint-2", "a/checkpoint-1"],
        ["out/step-20", "out/epoch-1"],
        ["meta/model-b", "meta/model-a"],
    ],
)
def test_what_numbers_do_not_tell_apart_stays_as_it_is_given(given):
    assert in_order_of_steps(given) == given


def test_equal_numbers_stay_as_they_are_given():
    assert in_order_of_steps(["out/step-010", "out/step-10", "out/step-9"]) == [
        "out/step-9",
        "out/step-010",
        "out/step-10",
    ]


def test_names_are_as_short_as_can_be():
    assert unique_names(["/runs/a/checkpoint-1", "/runs/a/checkpoint-2"]) == ["checkpoint-1", "checkpoint-2"]
    assert unique_names(["/runs/a/final", "/runs/b/final"]) == ["a/final", "b/final"]
