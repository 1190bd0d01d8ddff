from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lab.answers import mean_losses
from lab.finetune import finetune, main
from lab.model import load
from lab.questions import training_rows, write_jsonl

BASE = Path(__file__).parents[2] / "lab" / "base"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_one_epoch_leaves_one_checkpoint_that_any_library_loads(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", training_rows(40, seed=0))

    status = main(
        ["--data", str(tmp_path / "train.jsonl"), "--base", str(BASE), "--out", str(tmp_path / "out"), "--epochs", "1"]
    )

    assert status == 0
    assert [folder.name for folder in (tmp_path / "out").iterdir()] == ["checkpoint-3"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "checkpoint-3")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out" / "checkpoint-3")
    ids = tokenizer("Tom has 3 coins.", return_tensors="pt")["input_ids"]
    assert torch.isfinite(model(input_ids=ids).logits).all()


def test_what_was_trained_on_gets_likelier_from_epoch_to_epoch(tmp_path: Path) -> None:
    rows = training_rows(48, seed=0)

    epochs = list(finetune(rows, base=BASE, out=tmp_path, epochs=4, learning_rate=3e-3))

    losses = [loss for _, loss in epochs]
    assert losses == sorted(losses, reverse=True)
    before, after = (sum(mean_losses(*load(folder), rows)) for folder in (BASE, epochs[-1][0]))
    assert after < 0.8 * before


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    rows = training_rows(20, seed=0)

    one, other = (
        (folder / "model.safetensors").read_bytes()
        for out in ("one", "other")
        for folder, _ in finetune(rows, base=BASE, out=tmp_path / out, epochs=1)
    )

    assert one == other


def test_checkpoints_of_another_run_are_not_mixed_with_new_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "checkpoint-3").mkdir(parents=True)

    status = main(["--data", str(tmp_path / "train.jsonl"), "--out", str(tmp_path / "out")])

    assert status == 2
    assert "already holds checkpoints" in capsys.readouterr().err
