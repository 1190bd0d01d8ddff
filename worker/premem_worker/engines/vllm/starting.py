"""What has to be set before vLLM starts, and what to make of a start that failed."""

from __future__ import annotations

import gc
import os
from pathlib import Path

from premem.errors import CheckpointError, EngineError, PrememError
from premem_worker.engines.loading import first_line


def settle_environment() -> bool:
    """Set what vLLM reads when it is imported. True: this vLLM computes on the CPU."""
    import torch

    cpu = torch.version.cuda is None and torch.version.hip is None
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if cpu:
        # In this process it starts in a third of the time, and seeds give the same answers in any batch.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
        os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
    return cpu


def start_error(folder: Path, error: Exception) -> PrememError:
    from safetensors import SafetensorError

    reason = first_line(error)
    blames_weights = isinstance(error, AssertionError | KeyError | SafetensorError | ValueError)
    if blames_weights and "memory" not in str(error).lower():
        return CheckpointError(f"vLLM cannot load {folder}: {type(error).__name__}: {reason}")
    return EngineError(f"vLLM did not start with {folder}: {type(error).__name__}: {reason}")


def is_death(error: Exception) -> bool:
    """Of an engine in a process of its own, which keeps its reason to its log."""
    return type(error).__name__ == "EngineDeadError" or "core initialization failed" in str(error)


def clean_up_after_failed_start() -> None:
    """Half an engine in this process would stand in the next one's way."""
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    gc.collect()
    cleanup_dist_env_and_memory()
