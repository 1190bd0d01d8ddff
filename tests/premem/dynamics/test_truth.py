"""Against numbers that were computed apart: by autograd, by a model written out, and straight from the authors' logs."""

import json
from pathlib import Path

import numpy as np
import pytest

from premem.dynamics import statistics
from premem.dynamics.decomposition import (
    empirical_ntk,
    gradient,
    log_softmax_jacobian,
    log_softmax_jacobian_norm,
    predicted_change,
)
from premem.dynamics.recorded import read_authors_log, read_per_prompt
from premem.dynamics.risk import record
from premem.dynamics.squeezing import rises, step

SHARED = Path(__file__).parents[3] / "../shared"
TRUTH, LOGS = SHARED / "truth", SHARED / "data/hh-probe/recorded"

pytestmark = pytest.mark.skipif(not TRUTH.is_dir(), reason="the right answers are not on this machine")
logged = pytest.mark.skipif(not LOGS.is_dir(), reason="the authors' recorded logs are not on this machine")


def cases(name):
    path = TRUTH / name
    return json.loads(path.read_text())["cases"] if path.exists() else []


def error_slope(predicted, actual, etas):
    errors = [np.linalg.norm(p - a) / np.linalg.norm(a) for p, a in zip(predicted, actual, strict=True)]
    return np.polyfit(np.log(etas), np.log(errors), 1)[0]


@pytest.mark.parametrize("case", cases("squeeze_softmax.json"), ids=lambda case: case["name"])
def test_single_steps_on_a_softmax(case):
    sign = 1 if case["direction"] == "up" else -1

    after, delta_log = step(case["logits"], case["label"], case["eta"], sign)

    assert np.abs(after - case["after"]).max() < 1e-9
    assert np.abs(delta_log - case["delta_log"]).max() < 1e-9
    assert (delta_log > 0).tolist() == case["rises"]
    assert float(log_softmax_jacobian_norm(case["probabilities"])) == pytest.approx(case["A_fro2"], abs=1e-9)
    if case["first_order_rises"] is not None:
        assert rises(case["probabilities"], case["label"], sign).tolist() == case["first_order_rises"]
    if sign == -1 and case["eta"] > 0:
        assert delta_log[case["label"]] < 0
        assert delta_log[case["top_other"]] > 0


@pytest.mark.parametrize("case", cases("g_terms.json"), ids=lambda case: f"margin {case['margin']:.1f}")
def test_every_loss_and_its_gradient(case):
    for loss, wanted in case["losses"].items():
        found = gradient(
            loss,
            logits_chosen=case["logits_chosen"],
            logits_rejected=case["logits_rejected"],
            tokens_chosen=case["tokens_chosen"],
            tokens_rejected=case["tokens_rejected"],
            reference_chosen=case["ref_logp_chosen"],
            reference_rejected=case["ref_logp_rejected"],
            beta=case["beta"],
        )

        assert found.loss == pytest.approx(wanted["loss"], abs=1e-9), loss
        assert np.abs(found.chosen - wanted["G_chosen"]).max() < 1e-9, loss
        assert np.abs(found.rejected - wanted["G_rejected"]).max() < 1e-9, loss


def test_a_linear_model():
    truth = np.load(TRUTH / "akg_linear.npz")
    W, x_u, x_o, etas = (truth[name] for name in ("W", "x_u", "x_o", "etas"))
    jacobian_o = np.stack([np.kron(np.eye(len(W)), x) for x in x_o])

    G = gradient("sft_sum", logits_chosen=(W @ x_u)[None], tokens_chosen=[int(truth["y_u"])]).chosen
    A = log_softmax_jacobian(x_o @ W.T)
    K = empirical_ntk(jacobian_o, np.kron(np.eye(len(W)), x_u)[None])
    predicted = predicted_change(A, K, G, etas)

    for found, wanted in ((G[0], "G"), (A, "A"), (K[:, 0], "K"), (predicted, "predicted")):
        assert np.abs(found - truth[wanted]).max() < 1e-9, wanted
    assert 0.95 <= error_slope(predicted, truth["actual"], etas) <= 1.05


def logits_of(truth, prompt, response):
    """One causal attention layer written out; the logits that predict the response's tokens."""
    ids = [*prompt.tolist(), *response.tolist()]
    x = truth["E"][ids]
    scores = (x @ truth["Wq"]) @ (x @ truth["Wk"]).T / np.sqrt(x.shape[1])
    scores = np.where(np.tril(np.ones_like(scores)) > 0, scores, -1e30)
    attention = np.exp(scores - scores.max(axis=1, keepdims=True))
    attention /= attention.sum(axis=1, keepdims=True)
    hidden = np.tanh(x + attention @ (x @ truth["Wv"]) @ truth["Wo"])
    return (hidden @ truth["U"].T)[len(prompt) - 1 : -1]


def test_a_language_model_of_one_layer():
    truth = np.load(TRUTH / "akg_lm.npz")
    chosen, rejected, observed = (
        logits_of(truth, truth[prompt], truth[response])
        for prompt, response in (("prompt", "chosen"), ("prompt", "rejected"), ("o_prompt", "o_response"))
    )
    sums = [
        -gradient("sft_sum", logits_chosen=logits, tokens_chosen=truth[name]).loss
        for logits, name in ((chosen, "chosen"), (rejected, "rejected"))
    ]

    sft = gradient("sft_sum", logits_chosen=chosen, tokens_chosen=truth["chosen"])
    dpo = gradient(
        "sigmoid",
        logits_chosen=chosen,
        logits_rejected=rejected,
        tokens_chosen=truth["chosen"],
        tokens_rejected=truth["rejected"],
        reference_chosen=sums[0],
        reference_rejected=sums[1],
        beta=float(truth["beta"]),
    )
    A = log_softmax_jacobian(observed)
    by_sft = predicted_change(A, truth["K_chosen"], sft.chosen, truth["etas"])
    by_dpo = predicted_change(A, truth["K_chosen"], dpo.chosen, truth["etas"])
    by_dpo = by_dpo + predicted_change(A, truth["K_rejected"], dpo.rejected, truth["etas"])

    for found, wanted in (
        (A, truth["A"]),
        (sft.chosen, truth["G_sft"]),
        (dpo.chosen, truth["G_dpo_chosen"]),
        (dpo.rejected, truth["G_dpo_rejected"]),
        (by_sft, np.multiply.outer(truth["etas"], truth["predicted_sft_per_eta"])),
        (by_dpo, np.multiply.outer(truth["etas"], truth["predicted_dpo_per_eta"])),
    ):
        assert np.abs(found - wanted).max() < 1e-9
    assert 0.95 <= error_slope(by_sft, truth["actual_sft"], truth["etas"]) <= 1.05
    assert 0.95 <= error_slope(by_dpo, truth["actual_dpo"], truth["etas"]) <= 1.05


@pytest.mark.parametrize("case", cases("alerts.json"), ids=lambda case: case["name"])
def test_verdicts_and_their_intervals(case):
    changes = {
        family: statistics.change_per_token(
            *case[family], case["tokens_rejected" if family == "rejected" else "tokens_chosen"]
        )
        for family in ("chosen", "rejected", "argmax")
    }

    found = statistics.verdict(**changes)

    assert found.name == case["verdict"]
    assert found.chosen_down_argmax_up == pytest.approx(case["share_chosen_down_argmax_up"])
    for family, wanted in case["delta_per_token"].items():
        change = getattr(found, family)
        assert change.mean == pytest.approx(wanted["mean"], abs=1e-9)
        for end, place in (("low", 0), ("high", 1)):
            apart = [abs(getattr(change, end) - wanted[kind][place]) for kind in ("bootstrap95", "normal95")]
            assert min(apart) < 0.004, (family, end)


def recorded_truth():
    path = TRUTH / "recorded_logs.json"
    return json.loads(path.read_text())["runs"] if path.exists() else {}


@logged
@pytest.mark.parametrize("name", recorded_truth())
def test_recorded_logs(name):
    wanted = recorded_truth()[name]

    log = read_authors_log(LOGS / f"{name}.json")
    found = log.as_logged()

    assert (log.lines, list(log.runs), list(log.used_lines)) == (wanted["lines"], wanted["runs"], wanted["used_lines"])
    assert (list(log.nan_fields), list(log.inf_fields)) == (wanted["nan_fields"], wanted["inf_fields"])
    assert (list(log.families), log.held_out) == (wanted["families"], wanted["held_out"])
    for family, numbers in wanted["series"].items():
        one = log.series()[family]
        assert {key: getattr(one, key) for key in numbers} == pytest.approx(numbers, abs=1e-6), family
    assert log.argmax_below_chosen == wanted["argmax_below_chosen_evaluations"]
    assert (log.argmax_refused is None) == (wanted["argmax_is_of"] == "chosen")
    assert found.correlation == pytest.approx(wanted["corr_chosen_argmax"], abs=1e-6)
    assert found.correlation_second_half == pytest.approx(wanted["corr_second_half"], abs=1e-6)
    for firings, key in ((found.since_start, "squeeze_since_start"), (found.since_best, "squeeze_since_best")):
        told = {"fires": len(firings.at), "first": list(firings.at[:1]), "last_fires": firings.last_fires}
        assert told == wanted[key]


@logged
def test_the_authors_array_of_single_prompts_has_the_means_of_its_log():
    log = read_authors_log(LOGS / "prob_pythia410m_dpo.json")

    found = read_per_prompt(TRUTH / "authors_prob_pythia410m_dpo.npy", log)

    assert found.argmax_below_chosen == 178


@logged
def test_the_default_score_of_risk_is_as_good_as_the_table_says():
    log = read_authors_log(LOGS / "prob_pythia410m_dpo.json")
    columns = read_per_prompt(TRUTH / "authors_prob_pythia410m_dpo.npy", log).columns
    chosen, rejected = (columns[log.families[name]] for name in ("chosen", "rejected"))
    fell = chosen[-1] < chosen[0]

    assert record("log_ratio", chosen[0] - rejected[0], fell, resamples=20).auc == pytest.approx(0.82, abs=0.005)
    assert record("chosen_sum", chosen[0], fell, resamples=20).auc == pytest.approx(0.63, abs=0.005)
