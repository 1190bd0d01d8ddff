"""LoRA adapters as checkpoints: merged into their base once, and loaded like any other checkpoint.

One engine then swaps weights as always. On a CPU adapters beside the base cost 7 to 9 times the time of merged weights.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from premem.errors import CheckpointError, EngineError
from worker import checkpoints
from worker.cache import Cache

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MOST_RANK = 1024
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)


def is_adapter(folder: Path) -> bool:
    return (folder / CONFIG).is_file()


def merged(folder: Path, *, base: str | None, locate: Callable[[str], Path], cache: Cache) -> Path:
    """The folder of base and adapter as one model. `base`: as the job names it; None: as the adapter does.

    `locate` finds the base like a checkpoint. Raises CheckpointError where either cannot be used, EngineError where peft is
    missing or nothing has room.
    """
    config = _read(folder)
    named = base or config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise CheckpointError(
            f"{folder / CONFIG} names no base_model_name_or_path: name the base with the job (--base)"
        )
    try:
        base_folder = locate(named)
    except CheckpointError as error:
        raise CheckpointError(f"the base of the adapter {folder} cannot be used: {error}") from error
    if is_adapter(base_folder):
        raise CheckpointError(
            f"the base of the adapter {folder} is an adapter itself ({base_folder}): merge that one first"
        )
    checkpoints.inspect(base_folder)
    key = json.dumps(
        ["merged", *map(str, (folder, checkpoints.stamp(folder), base_folder, checkpoints.stamp(base_folder)))]
    )
    needed = sum(path.stat().st_size for path in [*checkpoints.weight_files(base_folder), folder / WEIGHTS])
    return cache.get(key, lambda out: _merge(folder, base_folder, out), bytes_needed=needed)


def _read(folder: Path) -> dict[str, Any]:
    """The adapter's config. Raises CheckpointError for what is no LoRA that can be merged."""
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG} cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise CheckpointError(f"{folder} holds an adapter of the kind {kind!r}: premem loads LORA, merge others first")
    rank = config.get("r")
    if not isinstance(rank, int) or not 1 <= rank <= MOST_RANK:
        raise CheckpointError(f"{folder / CONFIG} names the rank {rank!r}: it must lie between 1 and {MOST_RANK}")
    if (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} holds a model and an adapter: leave the one that is meant, and move the other")
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{folder} has no {WEIGHTS}: save the adapter as safetensors, premem loads nothing else")
    return config


def _merge(folder: Path, base: Path, out: Path) -> None:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise EngineError("LoRA adapters need peft, which is not installed: pip install 'premem[worker]'") from error
    from transformers import AutoModelForCausalLM

    signature = checkpoints.inspect(base)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            base, dtype=signature.dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
        adapted = PeftModel.from_pretrained(model, folder, local_files_only=True)
        # Weights that nobody can compute with are found by the canary; here they would only be hidden.
        adapted.merge_and_unload(safe_merge=False).save_pretrained(out)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"the adapter {folder} does not fit its base {base}: {_first_line(error)}") from error
    tokenizer = folder if (folder / "tokenizer.json").is_file() or (folder / "tokenizer.model").is_file() else base
    for name in _TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, out / name)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
