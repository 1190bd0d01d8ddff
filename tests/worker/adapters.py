"""LoRA adapters of a tiny model, and how well a checkpoint knows a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from premem_worker.checkpoints.located import Located
from premem_worker.engines.protocol import Engine
from premem_worker.engines.requests import ScoreRequest
from premem_worker.engines.transformers.engine import TransformersEngine

TOKENS = (1, 40, 50, 60, 70, 80, 90, 100)


def make_adapter(folder: Path, base: Path, *, seed: int, **config: Any) -> Path:
    torch.manual_seed(seed)
    usual: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "up_proj"]}
    usual["use_rslora"] = seed == 20
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(**usual | config)
    )
    for name, weight in model.named_parameters():
        if weight.requires_grad and "magnitude" not in name:  # 0 in a new adapter
            torch.nn.init.normal_(weight, std=0.1)
    model.save_pretrained(folder)
    return folder


def perplexity(located: Located, engine: Engine | None = None) -> float:
    engine = engine or TransformersEngine(device="cpu")
    engine.load(located.folder, dtype="float32", adapter=located.adapter)
    (scored,) = engine.run([ScoreRequest(0, TOKENS, 1)], sampling=None, stopped=lambda: False)  # type: ignore[arg-type]
    return -scored.log_likelihood
