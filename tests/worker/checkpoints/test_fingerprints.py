"""Fingerprints of weights: the same for the same weights, another for others, whatever the files look like."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from premem.errors import CheckpointError
from premem_worker.checkpoints import fingerprints
from tests.checkpoints import make_checkpoint

WIDE = fingerprints.BLOCKS * fingerprints.BLOCK_BYTES // 4
"""float32 numbers, the most that are read whole."""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "checkpoint-1", seed=1)


def rewrite(path: Path, content: bytes) -> None:
    """In the same place, as long as before, with the times of before."""
    status = path.stat()
    assert len(content) == status.st_size
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_checkpoint_retrained_in_place_is_seen_whatever_its_times_say(checkpoint: Path, tmp_path: Path):
    other = make_checkpoint(tmp_path / "retrained", seed=2)
    before = fingerprints.of_model(checkpoint)

    rewrite(checkpoint / "model.safetensors", (other / "model.safetensors").read_bytes())

    assert fingerprints.of_model(checkpoint) == fingerprints.of_model(other) != before


def test_a_copy_in_more_files_has_the_same(checkpoint: Path, tmp_path: Path):
    copied = Path(shutil.copytree(checkpoint, tmp_path / "copied"))
    in_several = make_checkpoint(tmp_path / "in-several", seed=1, shard_size="100KB")

    found = {fingerprints.of_model(folder) for folder in (checkpoint, copied, in_several)}

    assert len(list(in_several.glob("*.safetensors"))) > 1
    assert len(found) == 1


@pytest.mark.parametrize("place", [0, WIDE // 2, WIDE - 1])
def test_any_number_of_a_small_tensor_counts(tmp_path: Path, place: int):
    changed = torch.zeros(WIDE)
    changed[place] = 1.0

    assert of_tensors(tmp_path, a=torch.zeros(WIDE)) != of_tensors(tmp_path, a=changed)


def test_of_a_large_tensor_its_ends_and_a_change_of_most_of_it_count(tmp_path: Path):
    large = torch.zeros(1000, 1000)
    first, last, most = large.clone(), large.clone(), large.clone()
    first[0, 0] = last[-1, -1] = 1.0
    most[10:990] += 1e-3

    assert len({of_tensors(tmp_path, a=one) for one in (large, first, last, most)}) == 4


def test_names_shapes_and_dtypes_count(tmp_path: Path):
    zeros = torch.zeros(4, 4)

    found = [
        of_tensors(tmp_path, a=zeros),
        of_tensors(tmp_path, b=zeros),
        of_tensors(tmp_path, a=zeros.reshape(2, 8)),
        of_tensors(tmp_path, a=zeros.to(torch.int32)),
        of_tensors(tmp_path, a=zeros, b=zeros.clone()),
    ]

    assert len(set(found)) == len(found)


def of_tensors(folder: Path, **tensors: torch.Tensor) -> str:
    save_file(tensors, folder / "model.safetensors")
    return fingerprints.of_model(folder)


def test_the_files_are_read_once_as_long_as_they_stay(checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    before = fingerprints.of_model(checkpoint)
    monkeypatch.setattr(fingerprints, "_tensors", lambda path: pytest.fail(f"{path} was read again"))

    assert fingerprints.of_model(checkpoint) == before


def test_what_is_no_checkpoint_is_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match="has no weights"):
        fingerprints.of_model(tmp_path)


def adapter(folder: Path, *, scale: float = 1.0, **config: Any) -> Path:
    folder.mkdir()
    told = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, **config}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    save_file({"q_proj.lora_A.weight": torch.full((4, 64), scale)}, folder / "adapter_model.safetensors")
    return folder


def test_of_an_adapter_base_weights_and_strength_count_and_where_its_base_lay_does_not(
    checkpoint: Path, tmp_path: Path
):
    other = make_checkpoint(tmp_path / "other", seed=2)
    usual = adapter(tmp_path / "usual", base_model_name_or_path="/somewhere")
    moved = adapter(tmp_path / "moved", base_model_name_or_path="/elsewhere")
    trained = adapter(tmp_path / "trained", scale=2.0)
    stronger = adapter(tmp_path / "stronger", lora_alpha=16)

    same = fingerprints.of_adapted(checkpoint, usual)
    others = [(other, usual), (checkpoint, trained), (checkpoint, stronger)]

    assert fingerprints.of_adapted(checkpoint, moved) == same
    assert len({same, *(fingerprints.of_adapted(*pair) for pair in others)}) == 4


def test_an_adapter_retrained_in_place_is_seen(checkpoint: Path, tmp_path: Path):
    usual = adapter(tmp_path / "usual")
    before = fingerprints.of_adapted(checkpoint, usual)
    trained = adapter(tmp_path / "trained", scale=2.0)

    rewrite(usual / "adapter_model.safetensors", (trained / "adapter_model.safetensors").read_bytes())

    assert load_file(usual / "adapter_model.safetensors")["q_proj.lora_A.weight"].max() == 2.0
    assert fingerprints.of_adapted(checkpoint, usual) != before
