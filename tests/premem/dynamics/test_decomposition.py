"""Losses by hand and by finite differences, and A, K and G on models small enough to write down."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from premem.dynamics.decomposition import (
    LOSSES,
    authors_columns,
    empirical_ntk,
    gradient,
    log_softmax_jacobian,
    log_softmax_jacobian_norm,
    predicted_change,
)
from premem.dynamics.softmax import log_softmax, softmax
from premem.errors import InputError

EVEN = np.zeros((1, 2))


def of_two_even_tokens(loss, *, reference_chosen=-1.0, reference_rejected=-1.0, beta=1.0):
    """One token each of two equally likely ones: s = −log 2 of both answers."""
    return gradient(
        loss,
        logits_chosen=EVEN,
        logits_rejected=EVEN,
        tokens_chosen=[0],
        tokens_rejected=[1],
        reference_chosen=reference_chosen,
        reference_rejected=reference_rejected,
        beta=beta,
    )


@pytest.mark.parametrize(
    ("loss", "value", "by_chosen"),
    [
        ("sft_sum", np.log(2), -1.0),
        ("sft_mean", np.log(2), -1.0),
        ("sigmoid", np.log(2), -0.5),
        ("hinge", 1.0, -1.0),
        ("ipo", 0.25, -1.0),
        ("robust", np.log(2), -0.625),  # −(0.9 + 0.1)/2 / 0.8
        ("cdpo", np.log(2), -0.4),  # 0.1/2 − 0.9/2
        ("cdpo_0.3", np.log(2), -0.2),
        ("sigmoid_norm", np.log(2), -0.5),
        ("sigmoid_plus_sft", 2 * np.log(2), -1.5),
        ("dpop", np.log(2), -0.5),
    ],
)
def test_losses_at_a_margin_of_zero_by_hand(loss, value, by_chosen):
    found = of_two_even_tokens(loss)

    assert found.loss == pytest.approx(value, abs=1e-12)
    assert found.chosen[0].tolist() == pytest.approx([by_chosen / 2, -by_chosen / 2], abs=1e-12)


def test_dpop_lifts_a_chosen_answer_that_fell_fifty_times_as_much():
    # s⁺ − r⁺ = −0.01: m = −0.01, and 50 times that again
    found = of_two_even_tokens("dpop", reference_chosen=-np.log(2) + 0.01, reference_rejected=-np.log(2), beta=1.0)

    slope = -1 / (1 + np.exp(-0.51))
    assert found.loss == pytest.approx(np.log1p(np.exp(0.51)), abs=1e-12)
    assert found.chosen[0, 0] == pytest.approx(51 * slope / 2, abs=1e-12)
    assert found.rejected[0, 1] == pytest.approx(-slope / 2, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(LOSSES)), st.integers(0, 10_000))
def test_every_gradient_is_the_slope_of_its_loss(loss, seed):
    chance = np.random.default_rng(seed)
    chosen, rejected = chance.normal(size=(3, 4)), chance.normal(size=(2, 4))
    step = chance.normal(size=(3, 4)), chance.normal(size=(2, 4))

    def at(t):
        return gradient(
            loss,
            logits_chosen=chosen + t * step[0],
            logits_rejected=rejected + t * step[1],
            tokens_chosen=[0, 3, 1],
            tokens_rejected=[2, 2],
            reference_chosen=-4.0,
            reference_rejected=-3.0,
            beta=0.3,
        )

    found, h = at(0.0), 1e-6
    slope = (found.chosen * step[0]).sum() + (found.rejected * step[1]).sum()
    assert slope == pytest.approx((at(h).loss - at(-h).loss) / (2 * h), abs=1e-4)


@given(st.sampled_from(sorted(LOSSES)))
def test_at_every_position_the_gradient_adds_up_to_zero(loss):
    found = of_two_even_tokens(loss, reference_chosen=-0.3)

    assert found.chosen.sum(axis=1) == pytest.approx(0.0, abs=1e-12)
    assert found.rejected.sum(axis=1) == pytest.approx(0.0, abs=1e-12)


def test_sft_needs_no_rejected_answer():
    assert gradient("sft_mean", logits_chosen=EVEN, tokens_chosen=[0]).rejected is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"loss": "kto"}, "no loss named 'kto': choose one of sft_sum"),
        ({"loss": "cdpo_x"}, "no loss named 'cdpo_x'"),
        ({"loss": "robust_0.5"}, "from 0 to below 0.5"),
        ({"reference_chosen": None}, "both reference sums"),
        ({"tokens_rejected": None}, "belong together"),
        ({"tokens_chosen": [2]}, "none of the 2 of the vocabulary"),
        ({"tokens_chosen": [0, 1]}, "positions × vocabulary"),
        ({"beta": 0.0}, "beta is above 0"),
    ],
)
def test_what_cannot_be_used_is_named(wrong, told):
    given = {
        "loss": "sigmoid",
        "logits_chosen": EVEN,
        "logits_rejected": EVEN,
        "tokens_chosen": [0],
        "tokens_rejected": [1],
        "reference_chosen": 0.0,
        "reference_rejected": 0.0,
        "beta": 0.1,
    }

    with pytest.raises(InputError, match=told):
        gradient(**{**given, **wrong})


def test_a_by_hand_and_its_norm():
    # π = (3/4, 1/4): A = I − 1πᵀ, ‖A‖² = (1/16 + 1/16 + 9/16 + 9/16) = 2 − 2 + 2·(10/16)
    logits = np.log([3.0, 1.0])

    assert log_softmax_jacobian(logits) == pytest.approx(np.array([[0.25, -0.25], [-0.75, 0.75]]), abs=1e-12)
    assert log_softmax_jacobian_norm(softmax(logits)) == pytest.approx(1.25, abs=1e-12)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=7))
def test_the_norm_is_that_of_the_matrix(z):
    assert np.square(log_softmax_jacobian(z)).sum() == pytest.approx(
        float(log_softmax_jacobian_norm(softmax(z))), abs=1e-9
    )


def test_the_prediction_for_a_linear_model_errs_in_proportion_to_the_rate():
    W = np.array([[0.3, -0.2], [0.1, 0.4], [-0.5, 0.2]])
    x_u, y_u, x_o = np.array([1.0, 0.5]), 1, np.array([[0.5, 1.0], [-1.0, 0.3]])
    jacobian = lambda x: np.kron(np.eye(3), x)  # noqa: E731
    G = gradient("sft_sum", logits_chosen=(W @ x_u)[None], tokens_chosen=[y_u]).chosen
    K = empirical_ntk([jacobian(x) for x in x_o], [jacobian(x_u)])
    etas = np.array([1e-2, 1e-3, 1e-4])

    predicted = predicted_change(log_softmax_jacobian(x_o @ W.T), K, G, etas)

    # K between single inputs is ⟨x_o, x_u⟩ I
    assert K[:, 0] == pytest.approx((x_o @ x_u)[:, None, None] * np.eye(3), abs=1e-12)
    errors = []
    for eta, change in zip(etas, predicted, strict=True):
        actual = log_softmax(x_o @ (W - eta * np.outer(G[0], x_u)).T) - log_softmax(x_o @ W.T)
        errors.append(np.linalg.norm(change - actual) / np.linalg.norm(actual))
    assert np.polyfit(np.log(etas), np.log(errors), 1)[0] == pytest.approx(1.0, abs=0.05)


def test_one_trained_position_may_stand_without_its_axis():
    chance = np.random.default_rng(0)
    A, K, G = chance.normal(size=(2, 3, 3)), chance.normal(size=(2, 3, 3)), chance.normal(size=3)

    assert predicted_change(A, K, G, 0.5) == pytest.approx(predicted_change(A, K[:, None], G[None], 0.5))


def test_shapes_that_do_not_fit_are_told():
    with pytest.raises(InputError, match="do not fit"):
        predicted_change(np.eye(3)[None], np.eye(2)[None], np.zeros(2), 0.1)


def test_the_authors_columns_by_hand():
    # two positions over two tokens: (1/2, 1/2) and (1, 0) nearly; norms √½ and 1
    found = authors_columns([[0.0, 0.0], [50.0, 0.0]], [0, 0])

    assert found["A_o"] == pytest.approx(np.sqrt(2 * ((np.sqrt(0.5) + 1) / 2) ** 2), abs=1e-9)
    assert found["p_e"] == pytest.approx(np.sqrt(0.5) / 2, abs=1e-9)
    assert found["energy"] == pytest.approx(0.25, abs=1e-9)
