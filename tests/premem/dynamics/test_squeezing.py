"""One step on a softmax: numbers by hand, and what algebra says of every step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from premem.dynamics.softmax import log_softmax
from premem.dynamics.squeezing import rises, step
from premem.errors import InputError

logits = arrays(np.float64, st.integers(2, 8), elements=st.floats(-20, 20))


def test_pushing_one_of_two_equal_classes_down_by_hand():
    # p = (1/2, 1/2); z' = z + 2·(1/2 − 1, 1/2) = (−1, 1); p' = 1/(1 + e²)
    after, delta_log = step([0.0, 0.0], label=0, eta=2.0, sign=-1)

    assert after == pytest.approx([1 / (1 + np.e**2), np.e**2 / (1 + np.e**2)], abs=1e-12)
    assert delta_log[0] == pytest.approx(np.log(2) - np.log(1 + np.e**2), abs=1e-12)


def test_a_valley_pushed_down_lifts_the_peak_alone():
    p = [0.5, 0.2, 0.15, 0.1, 0.05]

    after, delta_log = step(np.log(p), label=4, eta=1.0, sign=-1)

    # ‖p‖² − p_y = 0.325 − 0.05 = 0.275: only 0.5 is above it
    assert rises(p, 4).tolist() == [True, False, False, False, False]
    assert (delta_log > 0).tolist() == [True, False, False, False, False]
    # weights p·exp(p − e): 0.8244, 0.2443, 0.1743, 0.1105, 0.0193, over their sum 1.3728
    assert after.tolist() == pytest.approx([0.6005, 0.1779, 0.1270, 0.0805, 0.0141], abs=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_huge_logits_do_not_overflow(sign):
    after, delta_log = step([1000.0, -1000.0, 0.0], label=1, eta=0.5, sign=sign)

    # π − e = (1, −1, 0): the label moves by 0.5, the peak by as much the other way
    assert after.tolist() == [1.0, 0.0, 0.0]
    assert delta_log.tolist() == pytest.approx([0.0, sign * 1.0, sign * 0.5], abs=1e-9)


@given(logits, st.floats(0.01, 5), st.data())
def test_a_label_pushed_down_falls_and_the_likeliest_other_class_rises(z, eta, data):
    label = data.draw(st.integers(0, len(z) - 1))
    others = [i for i in range(len(z)) if i != label]
    p = np.exp(log_softmax(z))

    _, delta_log = step(z, label, eta, sign=-1)

    if 1 - p[label] > 1e-6:
        assert delta_log[label] < 0
        assert delta_log[max(others, key=lambda i: z[i])] > -1e-12


@given(logits, st.sampled_from([1, -1]), st.data())
def test_a_small_step_moves_every_class_as_the_first_order_rule_says(z, sign, data):
    label = data.draw(st.integers(0, len(z) - 1))
    p = np.exp(log_softmax(z))
    slope = -sign * (p - np.eye(len(z))[label] - (p @ p - p[label]))

    _, delta_log = step(z, label, 1e-4, sign)

    clear = np.abs(slope) > 1e-3
    assert (delta_log > 0)[clear].tolist() == rises(p, label, sign)[clear].tolist()


@given(logits, st.floats(0, 5), st.sampled_from([1, -1]))
def test_probabilities_add_up_to_one(z, eta, sign):
    assert step(z, 0, eta, sign).after.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"label": 3}, "the label 3 is none of the classes 0 to 1"),
        ({"sign": 0}, "sign is 1"),
        ({"eta": float("nan")}, "eta is a number"),
        ({"logits": [0.0, float("nan")]}, "NaN or infinite"),
        ({"logits": [[0.0, 1.0]]}, "one axis of classes"),
    ],
)
def test_what_cannot_be_used_is_named(wrong, told):
    with pytest.raises(InputError, match=told):
        step(**{"logits": [0.0, 1.0], "label": 0, "eta": 1.0, "sign": 1, **wrong})
