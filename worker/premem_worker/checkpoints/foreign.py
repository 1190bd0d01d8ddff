"""Folders that training tools write and that hold no model to load yet: what each is, and how to make a model of it.

FSDP and DeepSpeed leave every process its own part of the weights; others leave pickles, or files of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from premem.errors import CheckpointError

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_NO_WEIGHTS = ("training_args.bin", "scheduler.pt", "scaler.pt", "random_states", "rng_state", "optimizer", "tokenizer")
"""Files of pickles that trainers leave beside the weights, by how they begin."""
_BESIDE = "put config.json, generation_config.json and the tokenizer's files beside the new weights"
_PARAMETER = re.compile(r"(weight|bias)$|\.lora_|\.trainable_tokens_")
"""By its name. Buffers, such as those of quantized layers, may be empty and nothing is amiss."""
_ZERO3 = (
    'set "stage3_gather_16bit_weights_on_model_save": true in the DeepSpeed config (zero3_save_16bit_model: true with '
    "accelerate) for the checkpoints to come"
)


def check_is_whole(folder: Path) -> None:
    """Raises CheckpointError for a folder whose weights lie in a form that only its own tool gathers, naming the command.

    One that holds safetensors, too, is none: beside the model they are what a training goes on from.
    """
    if any(folder.glob("*.safetensors")):
        return
    reason = _distributed(folder) or _zero(folder) or _megatron(folder) or _inside(folder)
    if reason is not None:
        raise CheckpointError(f"{folder} {reason}")


def why_no_weights(folder: Path) -> str:
    """Of a folder that holds no safetensors."""
    check_is_whole(folder)
    if gguf := sorted(path.name for path in folder.glob("*.gguf")):
        return (
            f"{folder} has only {', '.join(gguf[:3])}: premem loads safetensors only; name the checkpoint that it was "
            "converted from, or convert it: AutoModelForCausalLM.from_pretrained(folder, gguf_file=…).save_pretrained(…)"
        )
    pickles = sorted({path.name for pattern in _PICKLES for path in folder.glob(pattern)})
    if weights := [name for name in pickles if not name.startswith(_NO_WEIGHTS)]:
        way = "load it and save it again with save_pretrained"
        if any(name.startswith("pytorch_model_fsdp") for name in weights):
            way = (
                "it is FSDP's full state dict: torch.load it into the model, model.load_state_dict, and save_pretrained"
            )
        elif "consolidated.00.pth" in weights:
            way = "Meta's own format: transformers' convert_llama_weights_to_hf.py makes a folder to load of it"
        return f"{folder} has only {', '.join(weights[:3])}: premem loads safetensors only ({way})"
    return f"{folder} has no weights: there is no model.safetensors and no model.safetensors.index.json"


def check_gathered(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """`shapes`: of the tensors in there, by name. Raises CheckpointError where tensors hold no numbers: ZeRO-3 saves those so that lie with other processes."""
    empty = sorted(name for name, shape in shapes.items() if 0 in shape and _PARAMETER.search(name))
    if not empty:
        return
    what = (
        f"{len(empty)} of the {len(shapes)} tensors in {folder} are empty, such as {empty[0]} of shape {list(shapes[empty[0]])}: they were "
        "saved under DeepSpeed ZeRO-3 without being gathered first"
    )
    if any(".lora_" in name or name.startswith("base_model.") for name in empty):
        raise CheckpointError(
            f"{what}; {_ZERO3}, or gather them (deepspeed.zero.GatheredParameters) around model.save_pretrained; "
            f"{_gathering(folder)} gives this one's whole state dict"
        )
    raise CheckpointError(f"{what}; gather them: {_gathering(folder)}, then {_BESIDE}; and {_ZERO3}")


def _distributed(folder: Path) -> str | None:
    """torch.distributed.checkpoint, which FSDP writes: in the folder itself, or in one below it."""
    below = sorted(path for path in folder.iterdir() if path.is_dir())
    models = [path for path in below if path.name.startswith("pytorch_model")] + [
        path for path in below if not path.name.startswith(("optimizer", "pytorch_model"))
    ]
    for place in (folder, *models):
        if (place / ".metadata").is_file() or any(place.glob("*.distcp")):
            if (
                any(path.name.startswith("iter_") for path in (place, *place.parents[:1]))
                or (place / "common.pt").is_file()
            ):
                break  # Megatron's
            return (
                f"is a checkpoint of FSDP whose weights lie sharded over the processes ({_named(place, folder)} holds "
                f"*.distcp files): merge them with `accelerate merge-weights {place} OUT`, {_BESIDE}, and name OUT; with "
                "fsdp_state_dict_type: FULL_STATE_DICT the checkpoints to come can be loaded as they are"
            )
    ranks = sorted(path.name for path in folder.glob("model_world_size_*_rank_*.pt"))
    if ranks:
        return (
            f"is a checkpoint of verl's FSDP whose weights lie sharded over the processes ({ranks[0]}): merge them with "
            f"`python -m verl.model_merger merge --backend fsdp --local_dir {folder} --target_dir OUT`, and name OUT"
        )
    return None


def _zero(folder: Path) -> str | None:
    """DeepSpeed: global_step<N> holds what each process has, and zero_to_fp32.py beside it gathers that."""
    steps = [path.name for path in folder.iterdir() if re.fullmatch(r"global_step\d+", path.name) and path.is_dir()]
    own = re.fullmatch(r"global_step\d+", folder.name) is not None
    shards = [path.name for path in sorted(folder.glob("*zero_pp_rank_*.pt"))] + [
        path.name for path in sorted(folder.glob("mp_rank_*_model_states.pt"))
    ]
    if not (steps or shards or own or (folder / "zero_to_fp32.py").is_file()):
        return None
    place = sorted(steps)[-1] if steps else shards[0] if shards else "zero_to_fp32.py"
    return (
        f"is a checkpoint of DeepSpeed whose weights lie sharded over the processes ({place}): gather them with "
        f"{_gathering(folder.parent if shards or own else folder)}, {_BESIDE}, and name OUT; or {_ZERO3}"
    )


def _gathering(folder: Path) -> str:
    """The command, with the folder's own script where it has one."""
    if (folder / "zero_to_fp32.py").is_file():
        return f"`python {folder / 'zero_to_fp32.py'} {folder} OUT --safe_serialization`"
    return (
        "`python zero_to_fp32.py CHECKPOINT OUT --safe_serialization` in the training's folder that holds global_step*"
    )


def _megatron(folder: Path) -> str | None:
    tracker = folder / "latest_checkpointed_iteration.txt"
    parts = [*folder.glob("mp_rank_*"), *folder.glob("iter_*"), *folder.glob("*.nemo")]
    if not (tracker.is_file() or parts or re.fullmatch(r"iter_\d+", folder.name)):
        return None
    return (
        "is a checkpoint of Megatron or NeMo, which has a format of its own: export it as a Hugging Face folder "
        "(Megatron-Bridge's export_ckpt, or the converter that came with the trainer), and name that"
    )


def _inside(folder: Path) -> str | None:
    """Of a folder without a model and its config: the folders in it that hold one."""
    if (folder / "config.json").is_file():
        return None
    places = [*folder.glob("*"), *folder.glob("snapshots/*"), *folder.glob("*/merged")]
    found = sorted(
        str(path.relative_to(folder))
        for path in places
        if (path / "config.json").is_file() or (path / "adapter_config.json").is_file()
    )
    if not found:
        return None
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return (
        f"is no checkpoint itself, but holds some ({', '.join(found[:5])}{more}): name the one that is meant, such as "
        f"{folder / found[-1]}"
    )


def _named(place: Path, folder: Path) -> str:
    return "it" if place == folder else str(place.relative_to(folder))
