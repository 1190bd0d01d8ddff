"""The method on runs that the authors recorded on Llama3 8B; the figures were computed apart, straight from the arrays."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from premem.errors import InputError
from premem.forecasting.recorded_runs import read_run, read_runs
from premem.method.memorization import pre_memorization_accuracies

RECORDED = Path(__file__).parents[3] / "../shared/data/recorded-runs"
recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason="the authors' recorded runs are not on this machine")

ENDINGS = ("5_seed2_temp0.8", "50_seed2_temp0.8", "5_seed2")


def straight_from_the_arrays(memorized_below: float) -> tuple[list[float], list[float]]:
    """Forecast and test accuracy of every checkpoint, example by example, without premem."""
    forecasts, tests = [], []
    for run in sorted(RECORDED.iterdir()):
        checkpoints = sorted(run.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        kept = None if "full" in run.name else np.load(run / "subsample_idxs.npy")
        best = None
        for checkpoint in checkpoints:
            train, test = (
                next(
                    np.load(path) for end in ENDINGS if (path := checkpoint / f"{split}_answer_types{end}.npy").exists()
                )
                for split in ("train", "test")
            )
            accuracy = (train == 0).sum(axis=1) / train.shape[1]
            perplexity = np.load(checkpoint / "train_perplexities.npy")
            if kept is not None:
                accuracy, perplexity = accuracy[kept], perplexity[kept]
            unmemorized = [a if p >= memorized_below else 0.0 for a, p in zip(accuracy, perplexity, strict=True)]
            best = unmemorized if best is None else [max(pair) for pair in zip(best, unmemorized, strict=True)]
            forecasts.append(sum(min(pair) for pair in zip(best, accuracy, strict=True)) / len(best))
            tests.append(float((test == 0).mean()))
    return forecasts, tests


def r2_identity(forecasts: list[float], tests: list[float]) -> float:
    """Of test accuracy, on the line y = x."""
    residual = np.square(np.subtract(tests, forecasts)).sum()
    return float(1 - residual / np.square(np.subtract(tests, np.mean(tests))).sum())


FIGURES = {
    "memorized_below": 1.096,
    "r2_identity": 0.953,
    "r2_linear": 0.959,
    "mae": 0.019,
    "loro_r2_identity": 0.950,
    "loro_mae": 0.020,
    "interval": [1.092, 1.101],
}
"""Of the calibration on all nine runs."""


@recorded
def test_the_forecast_on_recorded_runs_is_the_one_computed_straight_from_the_arrays():
    expected, tests = straight_from_the_arrays(1.1055)

    runs = read_runs(RECORDED)
    scores = [
        pre_memorization_accuracies(run.accuracy_CE, run.perplexity_CE, memorized_below=1.1055).mean(axis=1)
        for run in runs
    ]
    forecasts = np.concatenate(scores).tolist()

    assert forecasts == pytest.approx(expected, abs=1e-12)
    assert np.concatenate([run.test_accuracy_C for run in runs]).tolist() == pytest.approx(tests)
    assert r2_identity(forecasts, tests) == pytest.approx(r2_identity(expected, tests), abs=0.001)
    assert r2_identity(forecasts, tests) > 0.9  # the paper's claim, on nine of its thirteen runs


def write_run(folder: Path, *, examples: int = 4, steps: tuple[int, ...] = (10, 2)) -> Path:
    for step in steps:
        checkpoint = folder / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        np.save(checkpoint / "train_answer_types5_seed2_temp0.8.npy", np.zeros((examples, 5), dtype=np.int64))
        np.save(checkpoint / "test_answer_types5_seed2_temp0.8.npy", np.ones((3, 5), dtype=np.int64))
        np.save(checkpoint / "train_perplexities.npy", np.full(examples, 1.5))
    return folder


def test_checkpoints_are_read_in_the_order_of_their_steps(tmp_path):
    run = read_run(write_run(tmp_path / "run_full", steps=(100, 20, 3)))

    assert run.checkpoints == ("checkpoint-3", "checkpoint-20", "checkpoint-100")
    assert run.accuracy_CE.shape == run.perplexity_CE.shape == (3, 4)


def test_a_run_on_a_part_is_cut_to_the_examples_it_was_trained_on(tmp_path):
    folder = write_run(tmp_path / "run_half_lr2e-05_bs128")
    np.save(folder / "subsample_idxs.npy", np.array([2, 0]))

    run = read_run(folder)

    assert run.accuracy_CE.shape == (2, 2)
    assert run.untrained_perplexity_CU.shape == (2, 2)
    assert run.learning_rate == 2e-05


def test_checkpoints_with_different_numbers_of_examples_are_refused(tmp_path):
    folder = write_run(tmp_path / "run_full")
    np.save(folder / "checkpoint-2" / "train_perplexities.npy", np.full(3, 1.5))

    with pytest.raises(InputError, match="different numbers of examples, 3 and 4"):
        read_run(folder)


@pytest.mark.parametrize("impossible", [0.5, np.nan, np.inf])
def test_an_impossible_perplexity_is_named(tmp_path, impossible):
    folder = write_run(tmp_path / "run_full")
    np.save(folder / "checkpoint-2" / "train_perplexities.npy", np.array([1.5, 1.5, impossible, 1.5]))

    with pytest.raises(InputError, match="perplexity of example 2 is"):
        read_run(folder)


@pytest.mark.parametrize("indices", [np.array([0, 9]), np.array([0.5]), np.array([], dtype=np.int64)])
def test_a_subset_that_names_no_example_is_refused(tmp_path, indices):
    folder = write_run(tmp_path / "run_half")
    np.save(folder / "subsample_idxs.npy", indices)

    with pytest.raises(InputError, match="subsample_idxs"):
        read_run(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train_perplexities.npy", None, "train_perplexities.npy is missing"),
        ("train_perplexities.npy", b"\x93NUMPY\x01", "no whole .npy file"),
        ("train_answer_types5_seed2_temp0.8.npy", None, "no train_answer_types"),
    ],
)
def test_a_missing_or_broken_array_is_named(tmp_path, name, content, message):
    path = write_run(tmp_path / "run_full") / "checkpoint-2" / name
    path.unlink()
    if content:
        path.write_bytes(content)

    with pytest.raises(InputError, match=message):
        read_run(tmp_path / "run_full")


ANSWERS, PERPLEXITIES = "train_answer_types5_seed2_temp0.8.npy", "train_perplexities.npy"


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (PERPLEXITIES, np.ones((4, 1)), "2 dimensions instead of 1"),
        (PERPLEXITIES, np.array(["high"] * 4), "instead of numbers"),
        (ANSWERS, np.zeros(4), "1 dimensions instead of 2"),
        (ANSWERS, np.full((4, 5), 7), "answer 0 to example 0 is 7; it is 0"),
        (ANSWERS, np.full((4, 5), np.nan), "answer 0 to example 0 is nan"),
        (ANSWERS, np.zeros((4, 0)), "is empty"),
        (ANSWERS, np.zeros((3, 5)), "different numbers of examples, 3 and 4"),
        ("test_answer_types5_seed2_temp0.8.npy", np.zeros((2, 5)), "different numbers of test questions, 2 and 3"),
    ],
)
def test_an_array_that_does_not_fit_is_named(tmp_path, name, array, message):
    folder = write_run(tmp_path / "run_full")
    np.save(folder / "checkpoint-2" / name, array)

    with pytest.raises(InputError, match=message):
        read_run(folder)


def test_of_several_sample_counts_the_papers_comes_first(tmp_path):
    folder = write_run(tmp_path / "run_full", steps=(2,))
    best_first = ("5_seed2_temp0.8", "50_seed2_temp0.8", "5_seed2", "10_seed2_temp0.8")
    paths = [folder / "checkpoint-2" / f"train_answer_types{name}.npy" for name in best_first]
    for place, path in enumerate(paths):
        np.save(path, (np.arange(4) < place)[:, None] * np.ones((1, 5)))
    np.save(paths[0].with_name("train_answer_types5_seed2_temp0.2.npy"), np.ones((4, 5)))

    read = []
    for path in paths:
        read.append(read_run(folder).accuracy_CE.mean())
        path.unlink()

    assert read == [1.0, 0.75, 0.5, 0.25]
    with pytest.raises(InputError, match="with 5, 50 or 10 samples"):
        read_run(folder)


def premem(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "premem", *arguments], capture_output=True, text=True, check=False)


@recorded
def test_the_command_prints_runs_and_calibration_as_json():
    told = json.loads(premem("recorded", str(RECORDED), "--memorized-below", "1.1055", "--json").stdout)

    first = told["runs"][0]
    assert first["run"] == "gsm8k_orig_12epochs_quarter_lr2e-05_bs128"
    assert [line["checkpoint"] for line in first["checkpoints"]][:2] == ["checkpoint-28", "checkpoint-56"]
    assert first["checkpoints"][0]["examples"] == 1868
    assert sum(len(run["checkpoints"]) for run in told["runs"]) == 35
    assert told["calibration"]["memorized_below"] == 1.1055
    assert told["calibration"]["r2_identity"] == pytest.approx(0.932, abs=5e-4)


@recorded
def test_figures_of_the_recorded_runs():
    told = json.loads(premem("recorded", str(RECORDED), "--json").stdout)

    assert set(told) == {"runs", "calibration"}
    figures = {name: told["calibration"][name] for name in FIGURES if name != "interval"}
    assert figures == pytest.approx({name: FIGURES[name] for name in figures}, abs=5e-4)
    assert told["calibration"]["interval"] == pytest.approx(FIGURES["interval"], abs=5e-4)
    last = told["runs"][0]["checkpoints"][-1]
    assert last.pop("checkpoint") == "checkpoint-168"
    assert last == pytest.approx(
        {
            "examples": 1868,
            "train_accuracy": 0.999,
            "memorized": 0.999,
            "pre_memorization_accuracy": 0.418,
            "test_accuracy": 0.435,
        },
        abs=5e-4,
    )


def test_the_command_reads_a_threshold_that_cannot_be_as_bad_input(tmp_path):
    ended = premem("recorded", str(tmp_path), "--memorized-below", "0.5")

    assert ended.returncode == 2
    assert "perplexity above 1" in ended.stderr


def test_the_command_names_a_folder_without_runs(tmp_path):
    ended = premem("recorded", str(tmp_path))

    assert ended.returncode == 2
    assert "holds no run" in ended.stderr


def test_calibrating_on_one_recorded_run_is_refused(tmp_path):
    write_run(tmp_path / "run_full")

    ended = premem("recorded", str(tmp_path))

    assert ended.returncode == 2
    assert "at least two runs" in ended.stderr
    assert "give --memorized-below" in ended.stderr


def write_tested_run(folder: Path, tests: dict[int, int]) -> Path:
    """Four examples, never memorized: at checkpoint 1 none is solved, at 2 one, at 3 two.

    `tests` says by checkpoint how many of ten answers to test questions are right.
    """
    write_run(folder, steps=tuple(tests))
    for step, right in tests.items():
        checkpoint = folder / f"checkpoint-{step}"
        np.save(checkpoint / ANSWERS, np.repeat((np.arange(4) >= step - 1)[:, None], 5, axis=1).astype(np.int64))
        wrong_TS = (np.arange(10) >= right).astype(np.int64).reshape(2, 5)
        np.save(checkpoint / "test_answer_types5_seed2_temp0.8.npy", wrong_TS)
    return folder


def test_with_a_given_threshold_one_run_is_enough_and_what_it_cannot_tell_is_said(tmp_path):
    # Scores 0, 0.25, 0.5 against test accuracies 0, 0.3, 0.6: squared errors 0.0025 and 0.01, around the mean 0.18.
    write_tested_run(tmp_path / "run_full", {1: 0, 2: 3, 3: 6})

    told = json.loads(premem("recorded", str(tmp_path), "--memorized-below", "1.1", "--json").stdout)
    ended = premem("recorded", str(tmp_path), "--memorized-below", "1.1")

    assert [line["pre_memorization_accuracy"] for line in told["runs"][0]["checkpoints"]] == [0.0, 0.25, 0.5]
    assert told["calibration"] is None
    assert told["fit"]["r2_identity"] == pytest.approx(1 - 0.0125 / 0.18)
    assert told["fit"]["r2_linear"] == pytest.approx(1.0)
    assert told["fit"]["mae"] == pytest.approx(0.05)
    assert "cannot be told without several runs" in told["warnings"][0]
    assert ended.returncode == 0
    assert "over 3 checkpoints of run_full: R² on y = x 0.931" in ended.stdout
    assert "cannot be told without several runs" in ended.stderr


def test_one_checkpoint_has_an_error_and_no_r2(tmp_path):
    write_tested_run(tmp_path / "run_full", {2: 3})

    told = json.loads(premem("recorded", str(tmp_path), "--memorized-below", "1.1", "--json").stdout)

    assert (told["fit"]["r2_identity"], told["fit"]["r2_linear"]) == (None, None)
    assert told["fit"]["mae"] == pytest.approx(0.05)
    assert "R² needs at least 3 checkpoints with a test accuracy, not 1" in told["warnings"]


def test_a_folder_that_is_a_run_itself_is_read_as_one(tmp_path, monkeypatch):
    monkeypatch.chdir(write_tested_run(tmp_path / "run_full", {1: 0, 2: 3}))

    runs = read_runs(Path())

    assert [run.name for run in runs] == ["run_full"]


def test_with_a_given_threshold_a_run_without_test_answers_stands_beside_the_tested_ones(tmp_path):
    for name in ("a_full", "b_full", "c_full"):
        write_tested_run(tmp_path / name, {1: 0, 2: 3, 3: 6})
    for path in (tmp_path / "b_full").glob("*/test_answer_types*"):
        path.unlink()

    ended = premem("recorded", str(tmp_path), "--memorized-below", "1.1")

    assert ended.returncode == 0
    assert "Leaving one run out" in ended.stdout
    assert "b_full: no test_answer_types….npy in checkpoint-1, checkpoint-2, checkpoint-3; left out" in ended.stderr


def test_without_test_answers_a_given_threshold_tells_the_scores_and_nothing_of_their_fit(tmp_path):
    for path in write_tested_run(tmp_path / "run_full", {1: 0, 2: 3}).glob("*/test_answer_types*"):
        path.unlink()

    told = json.loads(premem("recorded", str(tmp_path), "--memorized-below", "1.1", "--json").stdout)

    assert [line["pre_memorization_accuracy"] for line in told["runs"][0]["checkpoints"]] == [0.0, 0.25]
    assert (told["calibration"], told["fit"]) == (None, None)
    assert "no run has a test accuracy" in told["warnings"][0]


def test_a_run_on_a_part_without_its_indices_says_what_to_do(tmp_path):
    write_run(tmp_path / "run_half")

    ended = premem("recorded", str(tmp_path), "--memorized-below", "1.1")

    assert ended.returncode == 2
    assert "subsample_idxs.npy is missing" in ended.stderr
    assert "put `full` into the name" in ended.stderr


@recorded
@pytest.mark.parametrize(
    ("name", "memorized_below", "r2_identity"),
    [("untrained-part", 1.0897, 0.947), ("never-trained", 1.1067, 0.927), ("first-checkpoint", 1.0810, 0.906)],
)
def test_thresholds_without_test_labels_on_the_recorded_runs(name, memorized_below, r2_identity):
    told = json.loads(premem("recorded", str(RECORDED), "--threshold-from", name, "--json").stdout)

    assert told["threshold"]["memorized_below"] == pytest.approx(memorized_below, abs=5e-5)
    assert told["calibration"]["r2_identity"] == pytest.approx(r2_identity, abs=5e-4)


def test_a_subset_that_was_not_the_one_trained_on_is_warned_of_without_any_test_set(tmp_path):
    folder = write_run(tmp_path / "run_half", examples=40)
    np.save(folder / "subsample_idxs.npy", np.arange(20))
    for checkpoint in folder.glob("checkpoint-*"):
        np.save(checkpoint / "train_perplexities.npy", np.tile([1.1, 1.2, 1.3, 2.0], 10))
        next(checkpoint.glob("test_answer_types*")).unlink()

    np.save(folder / "checkpoint-10" / "train_perplexities.npy", np.tile([1.05, 2.0], 20))
    ended = premem("recorded", str(tmp_path), "--threshold-from", "first-checkpoint")
    np.save(folder / "checkpoint-10" / "train_perplexities.npy", np.repeat([1.05, 2.0], 20))
    sound = premem("recorded", str(tmp_path), "--threshold-from", "first-checkpoint")

    assert "as many examples are memorized outside of its subset as inside" in ended.stderr
    assert sound.returncode == 0
    assert "outside of its subset" not in sound.stderr


def test_without_any_test_set_a_fallback_ranks_and_calibrates_nothing(tmp_path):
    folder = write_run(tmp_path / "run_full")
    for path in folder.glob("*/test_answer_types*"):
        path.unlink()

    ended = premem("recorded", str(tmp_path), "--threshold-from", "first-checkpoint")

    assert ended.returncode == 0
    assert "Memorized below perplexity 1.5000: 3.5% quantile" in ended.stdout
    assert "nothing is calibrated" in ended.stderr


def test_a_checkpoint_without_test_answers_is_left_out_and_said(tmp_path):
    for name in ("a_full", "b_full"):
        folder = write_run(tmp_path / name, steps=(10, 2, 5))
        for step in (2, 5, 10):
            np.save(folder / f"checkpoint-{step}" / "train_perplexities.npy", np.linspace(1.1, 2.0, 4))
    next((tmp_path / "a_full" / "checkpoint-5").glob("test_*")).unlink()

    ended = premem("recorded", str(tmp_path))

    assert ended.returncode == 0
    assert "a_full: no test_answer_types….npy in checkpoint-5; left out" in ended.stderr


def test_two_thresholds_at_once_are_refused(tmp_path):
    write_run(tmp_path / "run_full")

    ended = premem("recorded", str(tmp_path), "--threshold-from", "never-trained", "--memorized-below", "1.1")

    assert ended.returncode == 2
    assert "not both" in ended.stderr


def test_a_fallback_that_needs_an_untrained_part_says_so(tmp_path):
    write_run(tmp_path / "run_full")

    ended = premem("recorded", str(tmp_path), "--threshold-from", "untrained-part")

    assert ended.returncode == 2
    assert "trained on a part" in ended.stderr
