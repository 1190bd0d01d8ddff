"""What vLLM adds to its own workers, in whichever process they run."""

from __future__ import annotations

from typing import Any


class InsideVllm:
    """Methods that are called by name through `collective_rpc`."""

    model_runner: Any

    def mend_output_layer(self) -> None:
        """On a CPU the output layer works on a packed copy, which a reload forgets where it is tied to the embedding."""
        from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

        for module in self.model_runner.get_model().modules():
            if isinstance(module, VocabParallelEmbedding) and hasattr(module, "cpu_linear"):
                module.quant_method.process_weights_after_loading(module)

    def cache_bytes(self) -> int:
        """Of memory that is reserved for keys and values here; 0 where it cannot be seen. Layers may share it."""
        import torch

        found, storages = list(getattr(self.model_runner, "kv_caches", [])), []
        while found:
            one = found.pop()
            if isinstance(one, torch.Tensor):
                storages.append(one.untyped_storage())
            elif isinstance(one, list | tuple):  # of a layer that keeps more than one
                found.extend(one)
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    def die_with_parent(self) -> None:
        """Have the kernel end this process with the one that started it, even where that one is killed with -9."""
        import ctypes
        import signal

        set_parent_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGKILL)
