"""What will keep a run's checkpoints from being scored, as soon as it can be seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "*.model", "vocab.*")
WEIGHTS = ("*.safetensors",)
ADAPTER = "adapter_config.json"
NO_TOKENIZER = "this Trainer saves no tokenizer beside its checkpoints, so no worker can score them: give it processing_class=tokenizer"


def at_the_beginning(args: Any, run: Mapping[str, Any]) -> list[str]:
    """From a Trainer's arguments, and from what it gives its callbacks."""
    found = []
    if getattr(args.save_strategy, "value", args.save_strategy) == "no":
        found.append("this run saves no checkpoints (save_strategy='no'), so nothing of it will be scored")
    collate = getattr(run.get("train_dataloader"), "collate_fn", None)
    collate = getattr(collate, "data_collator", collate)  # the Trainer's own, which leaves out columns
    # The Trainer saves a collator's tokenizer where it has none itself.
    tokenizer = run.get("processing_class") or getattr(collate, "tokenizer", None)
    if tokenizer is None and not hasattr(run.get("model"), "peft_config"):  # an adapter has its base's
        found.append(NO_TOKENIZER)
    return found


def of_saved(checkpoint: Path) -> list[str]:
    """From the folder that was just written; its name stands in no line, so that each is said once for all of them."""
    found = []
    adapter = (checkpoint / ADAPTER).is_file()
    if not adapter and not any(True for pattern in TOKENIZERS for _ in checkpoint.glob(pattern)):
        found.append(NO_TOKENIZER)
    if not any(True for pattern in WEIGHTS for _ in checkpoint.glob(pattern)):
        found.append(
            "the checkpoints that are saved hold no *.safetensors, so no worker can score them: have the whole model saved, "
            "not its shards (FSDP: state_dict_type FULL_STATE_DICT; ZeRO-3: stage3_gather_16bit_weights_on_model_save)"
        )
    return found


def expected_before(args: Any, state: Any) -> list[str]:
    """Names of the checkpoints that a run which is resumed saved before, as far as its arguments tell."""
    every = int(state.save_steps or 0)
    if getattr(args.save_strategy, "value", args.save_strategy) != "steps" or every < 1:
        return []
    return [f"checkpoint-{step}" for step in range(every, state.global_step + 1, every)]
