"""LoRA adapters as checkpoints: merged into their base once and loaded like any other checkpoint, or beside it.

Merged, one engine swaps weights as always: on a CPU adapters beside the base cost several times the time of merged weights.
Beside the base only the adapter, some megabytes, is read for the next checkpoint: that suits a GPU.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from premem.errors import CheckpointError, EngineError
from premem_worker.checkpoints import folder as checkpoints
from premem_worker.checkpoints import headers
from premem_worker.checkpoints.cache import Cache

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
BESIDE = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The layers whose adapters vLLM computes beside the base."""
MOST_BESIDE = 512
"""Highest rank of those."""
_NOT_BESIDE = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "modules_to_save",
    "layer_replication",
    "fan_in_fan_out",
)
_MERGING = 3
"""Counted up when the same files give other weights or texts than before, so that nothing of then is taken out of a cache."""
_PIECES = ("spiece.model", "sentencepiece.bpe.model")
_TOKENIZER_FILES = (
    *_PIECES,
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
_CHAT = "chat_template.jinja"


def is_adapter(folder: Path) -> bool:
    return (folder / CONFIG).is_file()


@dataclass(frozen=True, slots=True)
class Pair:
    """An adapter and its base, both at hand."""

    adapter: Path
    base: Path

    @property
    def stamps(self) -> list[tuple[tuple[str, int, int, int], ...]]:
        return [checkpoints.stamp(self.adapter), checkpoints.stamp(self.base)]


def paired(folder: Path, *, base: str | None, locate: Callable[[str], Path], max_rank: int = 512) -> Pair:
    """An adapter with its base. `base`: as the job names it; None: as the adapter does.

    `locate` finds the base like a checkpoint. Raises CheckpointError where either cannot be used.
    """
    config = _read(folder, max_rank=max_rank)
    headers.held_tensors(folder / WEIGHTS)
    named = base or config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise CheckpointError(
            f"{folder / CONFIG} names no base_model_name_or_path: name the base with the job (--base)"
        )
    try:
        base_folder = locate(named)
    except CheckpointError as error:
        raise CheckpointError(
            f"the base of the adapter {folder} cannot be used: {error}; another one is named with the job (--base)"
        ) from error
    if is_adapter(base_folder):
        raise CheckpointError(
            f"the base of the adapter {folder} is an adapter itself ({base_folder}): merge that one first"
        )
    if checkpoints.inspect(base_folder).quantization is not None:
        raise CheckpointError(
            f"the base of the adapter {folder} is quantized ({base_folder}): name the one that it was quantized from "
            "with the job (--base)"
        )
    return Pair(folder, base_folder)


def merged(pair: Pair, *, cache: Cache) -> Path:
    """The folder of base and adapter as one model. Raises CheckpointError where they do not fit each other, EngineError
    where peft is missing or nothing has room."""
    before = pair.stamps

    def merge(out: Path) -> None:
        _merge(pair.adapter, pair.base, out, dtype=checkpoints.inspect(pair.base).dtype)
        if pair.stamps != before:
            raise CheckpointError(
                f"the adapter {pair.adapter} or its base {pair.base} was written anew while they were merged: keep the "
                "checkpoints of a job as they are until it ends, and post the job again"
            )

    needed = sum(path.stat().st_size for path in [*headers.weight_files(pair.base), pair.adapter / WEIGHTS])
    key = json.dumps(["merged", _MERGING, str(pair.adapter), str(pair.base), before])
    return cache.get(key, merge, bytes_needed=needed)


def fits_beside(pair: Pair) -> bool:
    """Whether vLLM computes this adapter beside its base as peft does. False is no fault: what is left is merged.

    It is so for low ranks on the projections of attention and MLP, in every layer, with nothing else in the file.
    """
    config = json.loads((pair.adapter / CONFIG).read_bytes())
    if any(config.get(name) for name in _NOT_BESIDE) or config.get("init_lora_weights", True) not in (True, "gaussian"):
        return False
    if has_tokenizer(pair.adapter) and (
        checkpoints.tokenizer_fingerprint(pair.adapter) != checkpoints.tokenizer_fingerprint(pair.base)
    ):
        return False
    base = {tensor.name: tensor.shape for tensor in checkpoints.inspect(pair.base).tensors}
    shapes = {tensor.name: tensor.shape for tensor in headers.held_tensors(pair.adapter / WEIGHTS)}
    modules = {name.rpartition(".lora_")[0] for name in shapes}
    for module in modules:
        weight = base.get(f"{module.removeprefix('base_model.model.')}.weight")
        low, high = (shapes.get(f"{module}.lora_{part}.weight") for part in "AB")
        if weight is None or low is None or high is None or module.rpartition(".")[2] not in BESIDE:
            return False
        if not 1 <= low[0] <= MOST_BESIDE or (high[0], low[1]) != weight or high[1] != low[0]:
            return False
    kinds = {module.rpartition(".")[2] for module in modules}
    of_the_base = sum(name.removesuffix(".weight").rpartition(".")[2] in kinds for name in base)
    return bool(modules) and len(shapes) == 2 * len(modules) and of_the_base == len(modules)


def rank(folder: Path) -> int:
    """The highest of the adapter's ranks, by its weights."""
    return max(tensor.shape[0] for tensor in headers.held_tensors(folder / WEIGHTS) if ".lora_A." in tensor.name)


def _read(folder: Path, *, max_rank: int) -> dict[str, Any]:
    """The adapter's config. Raises CheckpointError for what is no LoRA that can be merged."""
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG} cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise CheckpointError(f"{folder} holds an adapter of the kind {kind!r}: premem loads LORA, merge others first")
    if config.get("alora_invocation_tokens"):
        raise CheckpointError(
            f"{folder / CONFIG} names alora_invocation_tokens: an adapter that is active in a part of a text only has no "
            "merged weights, and cannot be scored"
        )
    patterns = config.get("rank_pattern") or {}
    for rank in (config.get("r"), *(patterns.values() if isinstance(patterns, dict) else ())):
        if not isinstance(rank, int) or not 1 <= rank <= max_rank:
            raise CheckpointError(
                f"{folder / CONFIG} names the rank {rank!r}: it must lie between 1 and {max_rank}; a worker's "
                "--max-lora-rank may allow more"
            )
    if (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} holds a model and an adapter: leave the one that is meant, and move the other")
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{folder} has no {WEIGHTS}: save the adapter as safetensors, premem loads nothing else")
    return config


def _merge(folder: Path, base: Path, out: Path, *, dtype: str | None) -> None:
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            base, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except MemoryError as error:
        raise EngineError(f"too little memory to merge an adapter into {base}") from error
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"the base of the adapter {folder} cannot be loaded: {_first_line(error)}") from error
    attached(model, folder, base=base).save_pretrained(out)
    tokenizer = folder if has_tokenizer(folder) else base
    for source in (*(tokenizer / name for name in _TOKENIZER_FILES), spoken(folder, base) / _CHAT):
        if source.is_file():
            shutil.copyfile(source, out / source.name)


def attached(model: Any, folder: Path, *, base: Path) -> Any:
    """A transformers model of `base` with the adapter merged into it, in memory. Raises CheckpointError, EngineError."""
    try:
        from peft import PeftModel
    except ImportError as error:
        raise EngineError("LoRA adapters need peft, which is not installed: pip install 'premem[worker]'") from error
    from safetensors import SafetensorError

    held = {tensor.name for tensor in headers.held_tensors(folder / WEIGHTS)}
    unfit = f"the adapter {folder} does not fit its base {base}"
    try:
        adapted = PeftModel.from_pretrained(model, folder, local_files_only=True)
        if fault := _fault(adapted, held):
            raise CheckpointError(f"{unfit}: {fault}")
        _untie(adapted)
        # Weights that nobody can compute with are found by the canary; here they would only be hidden.
        return adapted.merge_and_unload(safe_merge=False)
    except MemoryError as error:
        raise EngineError(f"too little memory to merge the adapter {folder} into its base {base}") from error
    except (AttributeError, KeyError, RuntimeError, SafetensorError, TypeError, ValueError) as error:
        raise CheckpointError(f"{unfit}: {_first_line(error)}") from error


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", *_PIECES))


def spoken(adapter: Path, base: Path) -> Path:
    """Whose chat template they are asked through: the adapter's, where it has a tokenizer or a template, else the base's."""
    return adapter if has_tokenizer(adapter) or (adapter / _CHAT).is_file() else base


def _fault(adapted: Any, held: set[str]) -> str | None:
    """Left alone, peft draws what the file lacks, leaves out what the base has no place for, and goes on."""
    from peft import get_peft_model_state_dict

    wanted: Mapping[str, object] = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    # A file may hold whole layers of the base beside the adapter's own, and need not.
    of_the_base = set(adapted.state_dict())
    if lacking := sorted(set(wanted) - held - of_the_base):
        return f"{WEIGHTS} lacks {len(lacking)} of the {len(wanted)} tensors that belong to it, such as {lacking[0]}"
    if left_over := sorted(held - set(wanted) - of_the_base):
        return f"the base has no place for {len(left_over)} of its tensors, such as {left_over[0]}"
    return None


def _untie(adapted: Any) -> None:
    """Where the output layer is the embedding, what is merged into one of them would be merged into both."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from torch.nn import Parameter

    inputs, outputs = adapted.get_input_embeddings(), adapted.get_output_embeddings()
    if outputs is None or not any(isinstance(layer, BaseTunerLayer) for layer in (inputs, outputs)):
        return
    first, last = (
        layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer for layer in (inputs, outputs)
    )
    if first.weight is last.weight:
        last.weight = Parameter(last.weight.detach().clone(), requires_grad=False)
        adapted.config.tie_word_embeddings = False


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
