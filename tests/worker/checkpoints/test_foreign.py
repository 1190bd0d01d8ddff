"""Folders of other tools: what is said of each, and the command that makes a model of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from premem.errors import CheckpointError
from premem_worker.checkpoints.folder import inspect
from premem_worker.checkpoints.foreign import check_gathered
from premem_worker.checkpoints.headers import read_headers, weight_files


def with_files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"parts")


def fsdp_of_accelerate(folder: Path) -> None:
    with_files(
        folder, "pytorch_model_fsdp_0/.metadata", "pytorch_model_fsdp_0/__0_0.distcp", "optimizer_0/__0_0.distcp"
    )


def fsdp_in_the_folder_itself(folder: Path) -> None:
    with_files(folder, ".metadata", "__0_0.distcp", "__1_0.distcp", "config.json")


def fsdp_under_another_name(folder: Path) -> None:
    with_files(folder, "sharded/__3_0.distcp", "config.json")


def fsdp_of_verl(folder: Path) -> None:
    with_files(folder, "model_world_size_4_rank_0.pt", "optim_world_size_4_rank_0.pt", "huggingface/config.json")


def fsdp_in_one_pickle(folder: Path) -> None:
    with_files(folder, "pytorch_model_fsdp.bin", "config.json", "scheduler.pt")


def zero_with_its_script(folder: Path) -> None:
    with_files(folder, "global_step70/zero_pp_rank_0_mp_rank_00_model_states.pt", "zero_to_fp32.py", "latest")


def zero_without_its_script(folder: Path) -> None:
    with_files(folder, "global_step8/mp_rank_00_model_states.pt", "config.json")


def zero_the_inner_folder(folder: Path) -> None:
    with_files(folder, "zero_pp_rank_0_mp_rank_00_model_states.pt", "mp_rank_00_model_states.pt")


def megatron(folder: Path) -> None:
    with_files(folder, "latest_checkpointed_iteration.txt", "iter_0000100/__0_0.distcp", "iter_0000100/common.pt")


def a_run_of_checkpoints(folder: Path) -> None:
    with_files(folder, "checkpoint-10/config.json", "checkpoint-20/adapter_config.json", "runs/events")


def only_gguf(folder: Path) -> None:
    with_files(folder, "model-q4_k_m.gguf", "config.json")


def pickles_of_meta(folder: Path) -> None:
    with_files(folder, "consolidated.00.pth", "params.json", "config.json")


@pytest.mark.parametrize(
    ("write", "named", "said"),
    [
        (fsdp_of_accelerate, "FSDP", "`accelerate merge-weights {folder}/pytorch_model_fsdp_0 OUT`"),
        (fsdp_in_the_folder_itself, "FSDP", "`accelerate merge-weights {folder} OUT`"),
        (fsdp_under_another_name, "FSDP", "`accelerate merge-weights {folder}/sharded OUT`"),
        (fsdp_of_verl, "verl", "verl.model_merger merge --backend fsdp --local_dir {folder}"),
        (fsdp_in_one_pickle, "pytorch_model_fsdp.bin", "save_pretrained"),
        (zero_with_its_script, "global_step70", "`python {folder}/zero_to_fp32.py {folder} OUT --safe_serialization`"),
        (zero_without_its_script, "DeepSpeed", "stage3_gather_16bit_weights_on_model_save"),
        (zero_the_inner_folder, "DeepSpeed", "`python zero_to_fp32.py CHECKPOINT OUT --safe_serialization`"),
        (megatron, "Megatron", "export it as a Hugging Face folder"),
        (a_run_of_checkpoints, "holds some (checkpoint-10, checkpoint-20)", "such as {folder}/checkpoint-20"),
        (only_gguf, "model-q4_k_m.gguf", "gguf_file="),
        (pickles_of_meta, "consolidated.00.pth", "convert_llama_weights_to_hf.py"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_folder_of_another_tool_is_refused_with_the_way_to_a_model(
    tmp_path: Path, write: Callable[[Path], None], named: str, said: str
) -> None:
    folder = tmp_path / "step-100"
    folder.mkdir()
    write(folder)

    with pytest.raises(CheckpointError) as refused:
        weight_files(folder)

    assert str(folder) in str(refused.value)
    assert named in str(refused.value)
    assert said.format(folder=folder) in str(refused.value)


def test_a_folder_without_a_config_is_told_apart_before_the_config_is_missed(tmp_path: Path) -> None:
    fsdp_of_accelerate(tmp_path)

    with pytest.raises(CheckpointError, match="accelerate merge-weights"):
        inspect(tmp_path)


def test_weights_beside_what_a_training_goes_on_from_are_taken(tmp_path: Path) -> None:
    zero_with_its_script(tmp_path)
    save_file({"norm.weight": torch.ones(3)}, tmp_path / "model.safetensors")

    assert weight_files(tmp_path) == [tmp_path / "model.safetensors"]


def test_weights_that_were_never_gathered_are_counted_and_named(tmp_path: Path) -> None:
    held = {"embed_tokens.weight": torch.empty(0), "q_proj.weight": torch.empty(0), "norm.weight": torch.ones(3)}
    save_file(held, tmp_path / "model.safetensors")

    with pytest.raises(
        CheckpointError, match=r"2 of the 3 tensors .* such as embed_tokens.weight of shape \[0\]"
    ) as no:
        read_headers(tmp_path)
    assert "zero_to_fp32.py" in str(no.value)


def test_an_empty_buffer_is_no_weight(tmp_path: Path) -> None:
    check_gathered(tmp_path, {"q_proj.g_idx": (0,), "q_proj.weight": (3, 3)})


def test_an_adapter_that_was_never_gathered_is_told_as_one(tmp_path: Path) -> None:
    shapes = {"base_model.model.layers.0.q_proj.lora_A.weight": (0,)}

    with pytest.raises(CheckpointError, match=r"deepspeed\.zero\.GatheredParameters"):
        check_gathered(tmp_path, shapes)
