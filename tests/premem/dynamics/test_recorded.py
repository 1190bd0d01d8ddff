"""Logs that others recorded, in the authors' format: runs told apart, columns dropped, argmax refused."""

import json

import numpy as np
import pytest

from premem.dynamics.long_format import RecordedProbe
from premem.dynamics.recorded import firings, read, read_authors_log, read_per_prompt
from premem.dynamics.restarts import runs_of
from premem.errors import InputError, RowsError

CHOSEN, REJECTED = "logps_eval_prob_train/chosen", "logps_eval_prob_train/rejected"


def line(chosen, argmax=-5.0, **others):
    return {CHOSEN: float(chosen), "argmax_prob_logits": argmax, **others}


def log_of(tmp_path, lines):
    path = tmp_path / "prob_train_metrics.json"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def runs(*levels):
    return runs_of([line(level) for level in levels])


def test_one_run_is_one_run():
    assert runs(-10, -9, -9, -8) == [[0, 1, 2, 3]]


def test_a_restart_that_goes_on_is_the_second_run():
    assert runs(-10, -9, -10, -9, -8) == [[0, 1], [2, 3, 4]]


def test_a_restart_with_other_settings_leaves_the_path_of_the_first():
    assert runs(-10, -9, -8, -10, -7, -6) == [[0, 1, 2], [3, 4, 5]]


def test_a_restart_may_repeat_a_while_and_then_leave_the_path():
    assert runs(-10, -9, -8, -7, -10, -9, -6, -5, -4) == [[0, 1, 2, 3], [4, 5, 6, 7, 8]]


def test_two_processes_that_write_at_once_are_told_apart():
    # the second starts behind -8 and repeats -10, -9 between -7, -6, -5
    assert runs(-10, -9, -8, -10, -7, -9, -6, -5) == [[0, 1, 2, 4, 6, 7], [3, 5]]


def test_three_starts_are_three_runs():
    assert runs(-10, -10, -9, -10, -9, -8) == [[0], [1, 2], [3, 4, 5]]


def test_a_start_that_differs_in_rounding_alone_is_a_start():
    assert runs(-10, -9, -10 * (1 + 1e-9), -9, -8) == [[0, 1], [2, 3, 4]]


def test_the_longest_run_is_used_and_it_is_said(tmp_path):
    log = read_authors_log(log_of(tmp_path, [line(-10), line(-9), line(-10), line(-9), line(-8)]))

    assert (log.runs, log.used_lines, log.family("chosen").tolist()) == ((2, 3), (2, 3, 4), [-10, -9, -8])
    assert "2 runs were written into this file (2, 3 lines)" in log.warnings()[0]


def test_columns_with_nan_or_infinite_or_no_numbers_are_dropped_with_a_warning(tmp_path):
    lines = [
        line(-10, energy=0.5, p_e=float("nan"), late=float("-inf")),
        line(-9, energy=0.5, p_e=0.1, late=1.0, only_here=1.0),
    ]

    log = read_authors_log(log_of(tmp_path, lines))

    assert (log.nan_fields, log.inf_fields, log.missing_fields) == (("p_e",), ("late",), ("only_here",))
    assert set(log.columns) == {CHOSEN, "argmax_prob_logits", "energy"}
    assert len(log.warnings()) == 3


def test_null_is_a_number_that_is_missing(tmp_path):
    log = read_authors_log(log_of(tmp_path, [line(-10, p_e=None), line(-9, p_e=0.1)]))

    assert log.nan_fields == ("p_e",)


def test_trained_and_held_out_prompts_of_one_log_stay_apart(tmp_path):
    lines = [line(-10, **{"logps_eval_prob_test/chosen": -30.0}), line(-9, **{"logps_eval_prob_test/chosen": -31.0})]

    log = read_authors_log(log_of(tmp_path, lines))

    assert {name: log.family(name).tolist() for name in log.families} == {
        "chosen": [-10, -9],
        "test/chosen": [-30, -31],
    }


def test_start_peak_and_end_by_hand(tmp_path):
    found = read_authors_log(log_of(tmp_path, [line(-10), line(-7), line(-12), line(-9)])).series()["chosen"]

    assert (found.start, found.end, found.max, found.max_at, found.min, found.min_at) == (-10, -9, -7, 1, -12, 2)


def test_an_argmax_below_chosen_is_refused(tmp_path):
    log = read_authors_log(log_of(tmp_path, [line(-10, -5.0), line(-4, -5.0)]))

    assert log.argmax_below_chosen == 1
    assert "below chosen at 1 of 2 evaluations" in log.argmax_refused


def test_an_argmax_beside_several_families_is_refused(tmp_path):
    log = read_authors_log(log_of(tmp_path, [line(-10, **{REJECTED: -8.0}), line(-9, **{REJECTED: -9.0})]))

    assert "2 families and one argmax column" in log.argmax_refused
    assert "(rejected)" in log.argmax_refused


def test_held_out_prompts_are_told_by_the_column(tmp_path):
    lines = [{"logps_eval_prob_test/chosen": -1.0}, {"logps_eval_prob_test/chosen": -2.0}]
    log = read_authors_log(log_of(tmp_path, lines))

    assert log.held_out
    assert log.as_logged() is None


def test_the_rule_fires_beyond_both_floors_and_counts_from_the_second_time():
    # since the start chosen is down by 0.7 from evaluation 2 on, and argmax up by 1.3 from evaluation 2 on
    chosen, argmax = [-10, -9.0, -10.7, -10.7, -10.7], [-5, -5.0, -3.7, -3.7, -5.0]

    since_start, since_best = firings(chosen, argmax)

    assert (since_start.at, since_start.counted, since_start.last_fires) == ((2, 3), (3,), False)
    assert since_best.at == (2, 3)


def test_rejected_must_fall_too_where_it_is_logged():
    assert firings([-10, -11], [-5, -3], [-8, -8.5])[0].at == ()
    assert firings([-10, -11], [-5, -3], [-8, -8.7])[0].at == (1,)


def test_the_correlation_of_a_column_that_never_changes_is_none(tmp_path):
    found = read_authors_log(log_of(tmp_path, [line(-10), line(-9)])).as_logged()

    assert (found.correlation, found.correlation_second_half) == (None, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1}\n{"a": 1', "line 2: is no JSON"),
        ('{"a": 1}\n[1]', "line 2: is no JSON object"),
        ('{"a": 1}\n{"a": "1"}', "line 2, a: is no number"),
    ],
)
def test_bad_lines_are_named(tmp_path, text, told):
    path = tmp_path / "log.json"
    path.write_text(text)

    with pytest.raises(RowsError, match=told):
        read_authors_log(path)


def test_one_evaluation_shows_no_change(tmp_path):
    with pytest.raises(InputError, match="holds one evaluation"):
        read_authors_log(log_of(tmp_path, [line(-10)]))


def test_a_file_of_neither_format_is_told(tmp_path):
    with pytest.raises(InputError, match="no log that is known"):
        read(log_of(tmp_path, [{"loss": 1.0}]))


def test_the_array_of_single_prompts_must_be_of_its_log(tmp_path):
    log = read_authors_log(log_of(tmp_path, [line(-10), line(-8)]))
    values = np.array([[[-12.0, -8.0], [-5.0, -5.0]], [[-9.0, -7.0], [-5.0, -5.0]]])
    np.save(tmp_path / "right.npy", values)
    np.save(tmp_path / "wrong.npy", values + 0.1)

    found = read_per_prompt(tmp_path / "right.npy", log)

    assert found.argmax_below_chosen == 0
    assert (found.changes["chosen"].low, found.changes["chosen"].mean, found.changes["chosen"].high) == (1.0, 2.0, 3.0)
    with pytest.raises(InputError, match=r"the means of logps_eval_prob_train/chosen differ by 0\.1"):
        read_per_prompt(tmp_path / "wrong.npy", log)


def long_lines(*, fall=0.0, rise=0.0, pairs=100, part="train"):
    for checkpoint, share in (("base", 0.0), ("step-10", 0.5), ("step-20", 1.0)):
        for row in range(pairs):
            common = {"checkpoint": checkpoint, "row": row, "part": part}
            chosen = {"family": "chosen", "log_probability": -20 - 10 * share * fall, "tokens": 10}
            yield common | chosen | {"argmax": -10 + 10 * share * rise}
            yield common | {"family": "rejected", "log_probability": -30 - 40 * share, "tokens": 20}


def test_the_long_format_gets_a_verdict_of_each_part(tmp_path):
    lines = [*long_lines(fall=-0.5, rise=0.2), *long_lines(fall=0.5, rise=0.2, part="holdout")]

    probe = read(log_of(tmp_path, lines))

    assert isinstance(probe, RecordedProbe)
    verdicts = {part: [one.since_reference.name for one in found.evaluations] for part, found in probe.parts.items()}
    assert verdicts == {"train": ["none", "none"], "holdout": ["squeeze", "squeeze"]}
    assert probe.train_only()
    assert probe.best_checkpoint() is None
    # the margin grew at every pair, from −5 + 40 on
    assert probe.parts["holdout"].margin_accuracy == (1.0, 1.0)
    assert [line.occasion for line in probe.advice()][:1] == ["squeeze"]
    assert {line.occasion for line in probe.advice()} == {"squeeze", "rejected_longer", "train_only"}


def test_the_best_checkpoint_is_named(tmp_path):
    probe = read(log_of(tmp_path, [*long_lines(), *long_lines(part="holdout")]))

    assert probe.best_checkpoint() == "step-10"


def test_an_argmax_of_another_family_is_refused_in_the_long_format_too(tmp_path):
    lines = [{**one, "argmax": -25.0} if "argmax" in one else one for one in long_lines(fall=0.5)]

    found = read(log_of(tmp_path, lines)).parts["train"]

    assert "in 100 of 100 rows it lies below chosen" in found.argmax_refused
    assert found.evaluations[-1].since_reference.name == "displacement"


def test_rows_that_were_not_scored_everywhere_are_left_out_and_counted(tmp_path):
    lines = list(long_lines())[:-1]

    probe = read(log_of(tmp_path, lines))

    assert probe.parts["train"].left_out == 1
    assert probe.warnings() == ["train: 1 rows lack chosen or rejected at some checkpoint and were left out"]


def test_a_line_break_inside_a_text_ends_no_line(tmp_path):
    path = tmp_path / "probe.jsonl"
    lines = [json.dumps(one | {"prompt": f"a\u2028b {one['row']}"}, ensure_ascii=False) for one in long_lines(pairs=2)]
    path.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")

    assert read(path).parts["train"].rows == (0, 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"log_probability": None}, "line 3, log_probability"),
        ({"log_probability": 1.0}, "line 3, log_probability: row 0, chosen, draw 0 has a log-probability above 0"),
        ({"tokens": 11}, "line 3, tokens: row 0, chosen, draw 0 has 11 tokens here and 10"),
        ({"checkpoint": "a"}, "line 3, row: row 0, chosen, draw 0 was scored twice at checkpoint a"),
        ({"part": "test"}, "line 3, part"),
        ({"row": -1}, "line 3, row"),
    ],
)
def test_bad_lines_of_the_long_format_are_named(tmp_path, change, told):
    one = {"row": 0, "family": "chosen", "log_probability": -1.0, "tokens": 10}
    lines = [{"checkpoint": "a", **one}, {"checkpoint": "a", **one, "row": 1}, {"checkpoint": "b", **one, **change}]

    with pytest.raises(RowsError, match=told):
        read(log_of(tmp_path, lines))
