"""The vLLM engine: one for the worker's lifetime, whose weights are swapped under it."""

from __future__ import annotations

import gc
import importlib.util
import math
import multiprocessing
import multiprocessing.connection
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import InvalidStateError
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from premem.errors import CheckpointError, EngineError, PrememError
from premem.method.spans import Tokenizer
from premem.wire.jobs import Sampling
from premem_worker.checkpoints import adapters, headers
from premem_worker.checkpoints import folder as checkpoints
from premem_worker.checkpoints.folder import Signature
from premem_worker.checkpoints.headers import Dtype
from premem_worker.engines.feed import Feed
from premem_worker.engines.loading import (
    DoesNotFit,
    canary,
    check_finite,
    check_requests,
    check_vocabulary,
    first_line,
    is_out_of_memory,
    load_tokenizer,
)
from premem_worker.engines.requests import Sampled, SampleRequest, Scored, ScoreRequest
from premem_worker.engines.vllm.inside import InsideVllm
from premem_worker.engines.vllm.run import Asked, Loaded, Pass, prompt_log_probabilities, scoring_params, tokens_input
from premem_worker.engines.vllm.starting import clean_up_after_failed_start, is_death, settle_environment, start_error

_SPARE_BYTES = 4 * 2**30
"""GPU memory left free: vLLM puts the logits of whole prompts beside what it reserves."""

_RANKS = (0, 8, 16, 32, 64, 128, 256, 320, 512)
"""That vLLM takes as the highest; 0: no adapter at all."""

log = structlog.get_logger(__name__)


class VllmEngine:
    """Scores and samples in one loop. On a CPU it runs in this process, on a GPU beside it.

    A checkpoint with the signature of the one before is read into the running engine; any other gets a fresh engine.
    """

    name = "vllm"
    continuous = True

    def __init__(self, *, max_sequences: int | None = None, gpu_memory_utilization: float | None = None):
        """`max_sequences`: computed side by side; None: 128 on a CPU, 1,024 on a GPU. `gpu_memory_utilization`: the
        share of a GPU's memory that vLLM may take; None: all but 4 GiB.

        Where that is more than the memory holds, the engine is started once more with half the sequences, half the
        tokens in a step and less memory, and stays that small.
        """
        if not importlib.util.find_spec("vllm"):
            raise EngineError("vLLM is not installed: pip install 'premem[vllm]', or take the transformers engine")
        self._cpu = settle_environment()
        self._max_sequences = max_sequences or (128 if self._cpu else 1024)
        self._step_tokens: int | None = None
        """None: vLLM's own choice."""
        self._memory_share = gpu_memory_utilization
        self._smaller = False
        self._killed = False
        self._llm: Any = None
        self._loaded: Loaded | None = None
        self._matched: set[tuple[Signature, Dtype, str]] = set()
        self._passes = 0
        self.cache_bytes = 0
        self._rank = 0
        """The highest that the running engine takes of an adapter; 0: it takes none."""
        self._adapters = 0
        self._canaries: dict[tuple[float, ...], Path] = {}
        """Of the adapters so far."""

    @property
    def tokenizer(self) -> Tokenizer:
        tokenizer: Tokenizer = self._now().tokenizer
        return tokenizer

    @property
    def context(self) -> int:
        return self._now().context

    @property
    def produced_by(self) -> dict[str, str]:
        import torch
        import transformers
        import vllm
        from vllm.platforms import current_platform

        return {
            "engine": self.name,
            "versions": f"vllm {vllm.__version__}, transformers {transformers.__version__}, torch {torch.__version__}",
            "dtype": self._now().dtype,
            "device": "cpu" if self._cpu else str(current_platform.get_device_name()),
        }

    def load(self, checkpoint: Path, *, dtype: str | None, adapter: Path | None = None) -> None:
        try:
            signature = checkpoints.inspect(checkpoint)
            named = checkpoints.named_dtype(signature, dtype)
            stamp = checkpoints.stamp(checkpoint)
            adapted = None if adapter is None else (adapter, checkpoints.stamp(adapter))
            rank = 0 if adapter is None else adapters.rank(adapter)
            held, self._loaded = self._loaded, None
            loaded: Loaded | None = None
            if held is not None and (held.folder, held.stamp, held.dtype) == (checkpoint, stamp, named):
                loaded = held if rank <= self._rank else None
            elif held is not None and rank == self._rank == 0 and self._can_swap(held, signature, named):
                loaded = self._swap(held, checkpoint, stamp)
            if loaded is None:
                self._rank = next((most for most in _RANKS if most >= rank), rank)
                loaded = self._start(checkpoint, stamp, signature, named)
            self._loaded = self._adapt(loaded, adapted)
        except BaseException:
            self.close()
            raise

    def run(
        self,
        requests: Feed | Sequence[ScoreRequest | SampleRequest],
        *,
        sampling: Sampling,
        stopped: Callable[[], bool],
    ) -> Iterator[Scored | Sampled]:
        loaded = self._now()
        if not isinstance(requests, Feed):
            check_requests(requests, sampling, context=loaded.context)
        feed, again = Feed.of(requests), list[Asked]()
        while True:
            this = self._pass(loaded, sampling, stopped)
            try:
                yield from this.run(feed, again)
                return
            except (DoesNotFit, GeneratorExit, PrememError):
                raise
            except Exception as error:
                self.close()
                if not self._lacks_memory(error):
                    raise EngineError(f"vLLM failed: {type(error).__name__}: {first_line(error)}") from error
                self._make_smaller(error)
            again = this.unanswered
            adapted = loaded.adapted
            loaded = self._start(loaded.folder, loaded.stamp, loaded.signature, loaded.dtype)
            self._loaded = loaded = self._adapt(loaded, adapted)

    def close(self) -> None:
        self._loaded = None
        llm, self._llm = self._llm, None
        if llm is None:
            return
        llm.renderer.shutdown()
        llm.engine_core.shutdown()
        del llm
        gc.collect()

    def kill(self) -> None:
        self._killed = True
        for process in multiprocessing.active_children():  # whatever else a worker starts, it starts otherwise
            process.kill()

    def _notice_death(self) -> None:
        """vLLM leaves whoever waits for a step or a call of a process that died waiting forever."""
        core = self._llm.engine_core
        sentinels = [process.sentinel for process in multiprocessing.active_children()]

        def wait() -> None:
            from vllm.v1.engine.exceptions import EngineDeadError

            multiprocessing.connection.wait(sentinels)
            core.outputs_queue.put_nowait(EngineDeadError())
            for called in list(core.utility_results.values()):
                with suppress(InvalidStateError):  # it was answered all the same
                    called.set_exception(EngineDeadError())

        threading.Thread(target=wait, name="engine's death", daemon=True).start()

    def _pass(self, loaded: Loaded, sampling: Sampling, stopped: Callable[[], bool]) -> Pass:
        self._passes += 1
        # Twice as many as run side by side, so that one is always ready to take a free place.
        return Pass(self._llm, loaded, sampling, stopped, name=f"pass{self._passes}", most=2 * self._max_sequences)

    def _now(self) -> Loaded:
        if self._loaded is None:
            raise EngineError("no checkpoint is loaded")
        return self._loaded

    def _start(self, folder: Path, stamp: tuple[object, ...], signature: Signature, dtype: Dtype) -> Loaded:
        """A fresh engine; whatever there was before makes room first."""
        self.close()
        tokenizer = load_tokenizer(folder)
        expected = self._expected(folder, signature, dtype, how="started")
        try:
            self._llm = self._make(folder, dtype)
        except Exception as error:
            clean_up_after_failed_start()
            if not self._lacks_memory(error):
                raise start_error(folder, error) from error
            self._make_smaller(error)
            return self._start(folder, stamp, signature, dtype)
        if multiprocessing.active_children():
            self._notice_death()
            self._llm.collective_rpc("die_with_parent")
        self.cache_bytes = sum(self._llm.collective_rpc("cache_bytes"))
        return self._checked(folder, stamp, signature, dtype, tokenizer, expected)

    def _make(self, folder: Path, dtype: Dtype) -> Any:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        if self._cpu:
            # Prompts shorter than the default block of 128 would share nothing; seeds crash with chunked prefill.
            device: dict[str, Any] = {"enforce_eager": True, "block_size": 32, "enable_chunked_prefill": False}
        else:
            from vllm.platforms import current_platform

            total = current_platform.get_device_total_memory()
            share = self._memory_share or min(0.92, max(0.5, 1.0 - _SPARE_BYTES / total))
            device = {"gpu_memory_utilization": share, "max_num_batched_tokens": self._step_tokens}
        if self._rank:
            # Not the output layer: there, with log-probabilities of a prompt, it crashes.
            device |= {"enable_lora": True, "max_lora_rank": self._rank}
            device |= {"lora_target_modules": list(adapters.BESIDE)}
        arguments = EngineArgs(
            model=str(folder),
            dtype=dtype,
            load_format="safetensors",
            trust_remote_code=False,
            generation_config="vllm",  # no sampling settings but the request's own
            max_model_len=-1,  # the model's, or what the memory holds
            max_num_seqs=self._max_sequences,
            enable_prefix_caching=True,
            worker_extension_cls=f"{InsideVllm.__module__}.{InsideVllm.__qualname__}",
            disable_log_stats=True,
            use_tqdm_on_load=False,
            seed=0,
            **device,
        )
        return LLMEngine.from_engine_args(arguments)

    def _lacks_memory(self, error: Exception) -> bool:
        """As far as that can be told: of an engine in a process of its own one learns only that it is dead."""
        return not self._killed and (is_out_of_memory(error) or is_death(error))

    def _make_smaller(self, error: Exception) -> None:
        """Once. Raises EngineError at the second time."""
        if self._smaller:
            raise EngineError(
                f"vLLM has too little memory, or its process died for another reason that stands in this worker's log "
                f"above, with {self._max_sequences} sequences side by side too: set --max-sequences or "
                f"--gpu-memory-utilization lower{', or VLLM_CPU_KVCACHE_SPACE (GiB)' if self._cpu else ''}: "
                f"{type(error).__name__}: {first_line(error)}"
            ) from error
        self._smaller = True
        self._max_sequences = max(1, self._max_sequences // 2)
        if self._cpu:
            cache = int(os.environ["VLLM_CPU_KVCACHE_SPACE"])
            os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, cache // 2))
        else:
            self._step_tokens = 4096  # half of what vLLM takes on large GPUs
            self._memory_share = 0.85 * (self._memory_share or 0.92)
        log.warning(
            "vLLM starts again, smaller",
            reason=f"{type(error).__name__}: {first_line(error)}",
            max_sequences=self._max_sequences,
        )

    def _can_swap(self, held: Loaded, signature: Signature, dtype: Dtype) -> bool:
        return held.signature == signature and held.dtype == dtype and signature.quantization is None

    def _swap(self, held: Loaded, folder: Path, stamp: tuple[object, ...]) -> Loaded | None:
        """Read the weights of `folder` into the running engine. None: nothing seems to have changed in there."""
        try:
            self._llm.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
            if self._cpu and held.signature.tied:
                self._llm.collective_rpc("mend_output_layer")
        except Exception as error:
            raise EngineError(f"vLLM could not read the weights of {folder}: {first_line(error)}") from error
        self._forget_prefixes()
        expected = self._expected(folder, held.signature, held.dtype, how="swapped")
        loaded = self._checked(folder, stamp, held.signature, held.dtype, held.tokenizer, expected)
        if loaded.canary == held.canary and not _same_weights(folder, held.folder):
            return None
        return loaded

    def _forget_prefixes(self) -> None:
        """Keys and values of the old weights would answer for the new ones."""
        until = time.monotonic() + 10.0
        while not self._llm.reset_prefix_cache():
            if time.monotonic() > until:
                raise EngineError("vLLM's prefix cache cannot be reset: requests are still running")
            time.sleep(0.05)  # an engine in another process may not be through with what was aborted

    def _checked(
        self,
        folder: Path,
        stamp: tuple[object, ...],
        signature: Signature,
        dtype: Dtype,
        tokenizer: Any,
        expected: list[float] | None,
    ) -> Loaded:
        config = self._llm.model_config
        vocabulary = config.get_vocab_size()
        check_vocabulary(folder, tokenizer, vocabulary)
        values = self._canary(vocabulary)
        check_finite(folder, values)
        if expected is not None:
            check_close(folder, values, expected, dtype)
        # vLLM takes no prompt of max_model_len tokens: it always samples one more.
        context = min(config.max_model_len - 1, checkpoints.context_length(folder) or config.max_model_len)
        ends = checkpoints.end_tokens(folder, tokenizer_eos=tokenizer.eos_token_id)
        return Loaded(folder, stamp, signature, dtype, tokenizer, ends, context, values)

    def _adapt(self, loaded: Loaded, adapted: tuple[Path, tuple[object, ...]] | None) -> Loaded:
        """Have everything answered with this adapter beside the weights in memory; None: with none."""
        from vllm.lora.request import LoRARequest

        if loaded.adapted == adapted:
            return loaded
        if loaded.adapter is not None:
            self._llm.remove_lora(loaded.adapter.lora_int_id)
        if adapted is None:
            return replace(loaded, adapter=None, adapted=None)
        folder, _ = adapted
        self._adapters += 1  # keys and values are cached by the name
        adapter = LoRARequest(f"adapter-{self._adapters}", self._adapters, str(folder))
        try:
            self._llm.add_lora(adapter)
        except ValueError as error:
            raise CheckpointError(f"vLLM cannot load the adapter {folder}: {first_line(error)}") from error
        except Exception as error:
            raise EngineError(f"vLLM could not read the adapter {folder}: {first_line(error)}") from error
        values = self._canary(self._llm.model_config.get_vocab_size(), adapter)
        check_finite(folder, values)
        if self._canaries.setdefault(values, folder) != folder or values == loaded.canary:
            # It may have been left out, or taken for another one.
            self._matched.discard((loaded.signature, loaded.dtype, "adapted"))
        expected = self._expected(loaded.folder, loaded.signature, loaded.dtype, how="adapted", adapter=folder)
        if expected is not None:
            check_close(folder, values, expected, loaded.dtype)
        return replace(loaded, adapter=adapter, adapted=adapted)

    def _canary(self, vocabulary: int, adapter: Any = None) -> tuple[float, ...]:
        tokens = canary(vocabulary)
        self._llm.add_request("canary", tokens_input(tokens), scoring_params(), lora_request=adapter)
        while True:
            for output in self._llm.step():
                return tuple(prompt_log_probabilities(output, tokens))

    def _expected(
        self, folder: Path, signature: Signature, dtype: Dtype, *, how: str, adapter: Path | None = None
    ) -> list[float] | None:
        """The canary's log-probabilities by transformers, once per signature, dtype and way of loading.

        None: done before, or the memory does not hold the model a second time.
        """
        if (signature, dtype, how) in self._matched or not _fits_beside(folder):
            return None
        from premem_worker.engines.transformers.engine import reference_log_probabilities

        self._matched.add((signature, dtype, how))
        return reference_log_probabilities(folder, dtype, adapter=adapter)


def check_close(folder: Path, values: Sequence[float], expected: Sequence[float], dtype: Dtype) -> None:
    """In nats per token, on average: weights in the wrong place are off by several."""
    allowed = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.25}[dtype]
    off = math.fsum(abs(one - other) for one, other in zip(values, expected, strict=True)) / len(expected)
    if not off <= allowed:
        raise EngineError(
            f"vLLM and transformers do not agree on {folder}: their log-probabilities are {off:.3g} nats apart per "
            f"token, where {allowed:g} is allowed in {dtype}; use the transformers engine for this model"
        )


def _same_weights(folder: Path, other: Path) -> bool:
    try:
        return headers.weights_digest(folder) == headers.weights_digest(other)
    except (CheckpointError, OSError):  # the other one is gone since
        return False


def _fits_beside(folder: Path) -> bool:
    """Whether a third of the memory that is free holds the weights."""
    needed = sum(path.stat().st_size for path in headers.weight_files(folder))
    return 3 * needed < os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
