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
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from premem.errors import CheckpointError, EngineError, Interrupted, PrememError
from premem.wire import Sampling
from worker import checkpoints
from worker.checkpoints import Dtype, Signature
from worker.engines import Sampled, SampleRequest, Scored, ScoreRequest, Tokenizer
from worker.engines.feed import Feed
from worker.engines.inside import InsideVllm
from worker.engines.loading import (
    DoesNotFit,
    canary,
    check_finite,
    check_requests,
    check_vocabulary,
    first_line,
    is_out_of_memory,
    load_tokenizer,
)
from worker.engines.starting import clean_up_after_failed_start, is_death, settle_environment, start_error

_SPARE_BYTES = 4 * 2**30
"""GPU memory left free: vLLM puts the logits of whole prompts beside what it reserves."""


log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Loaded:
    folder: Path
    stamp: tuple[object, ...]
    signature: Signature
    dtype: Dtype
    tokenizer: Any
    ends: frozenset[int]
    context: int
    canary: tuple[float, ...]


class VllmEngine:
    """Scores and samples in one loop. On a CPU it runs in this process, on a GPU beside it.

    A checkpoint with the signature of the one before is read into the running engine; any other gets a fresh engine.
    """

    name = "vllm"

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
        self._loaded: _Loaded | None = None
        self._matched: set[tuple[Signature, Dtype, bool]] = set()
        self._passes = 0

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

    def load(self, checkpoint: Path, *, dtype: str | None) -> None:
        try:
            signature = checkpoints.inspect(checkpoint)
            named = checkpoints.named_dtype(signature, dtype)
            stamp = checkpoints.stamp(checkpoint)
            held, self._loaded = self._loaded, None
            if held is not None and (held.folder, held.stamp, held.dtype) == (checkpoint, stamp, named):
                self._loaded = held
                return
            if held is not None and self._can_swap(held, signature, named):
                self._loaded = self._swap(held, checkpoint, stamp)
            if self._loaded is None:
                self._loaded = self._start(checkpoint, stamp, signature, named)
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
        feed, again = Feed.of(requests), list[_Asked]()
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
            loaded = self._start(loaded.folder, loaded.stamp, loaded.signature, loaded.dtype)
            self._loaded = loaded

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

    def _pass(self, loaded: _Loaded, sampling: Sampling, stopped: Callable[[], bool]) -> _Pass:
        self._passes += 1
        # Twice as many as run side by side, so that one is always ready to take a free place.
        return _Pass(self._llm, loaded, sampling, stopped, name=f"pass{self._passes}", most=2 * self._max_sequences)

    def _now(self) -> _Loaded:
        if self._loaded is None:
            raise EngineError("no checkpoint is loaded")
        return self._loaded

    def _start(self, folder: Path, stamp: tuple[object, ...], signature: Signature, dtype: Dtype) -> _Loaded:
        """A fresh engine; whatever there was before makes room first."""
        self.close()
        tokenizer = load_tokenizer(folder)
        expected = self._expected(folder, signature, dtype, swapped=False)
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

    def _can_swap(self, held: _Loaded, signature: Signature, dtype: Dtype) -> bool:
        return held.signature == signature and held.dtype == dtype and signature.quantization is None

    def _swap(self, held: _Loaded, folder: Path, stamp: tuple[object, ...]) -> _Loaded | None:
        """Read the weights of `folder` into the running engine. None: nothing seems to have changed in there."""
        try:
            self._llm.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
            if self._cpu and held.signature.tied:
                self._llm.collective_rpc("mend_output_layer")
        except Exception as error:
            raise EngineError(f"vLLM could not read the weights of {folder}: {first_line(error)}") from error
        self._forget_prefixes()
        expected = self._expected(folder, held.signature, held.dtype, swapped=True)
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
    ) -> _Loaded:
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
        return _Loaded(folder, stamp, signature, dtype, tokenizer, ends, context, values)

    def _canary(self, vocabulary: int) -> tuple[float, ...]:
        tokens = canary(vocabulary)
        self._llm.add_request("canary", tokens_input(tokens), scoring_params())
        while True:
            for output in self._llm.step():
                return tuple(prompt_log_probabilities(output, tokens))

    def _expected(self, folder: Path, signature: Signature, dtype: Dtype, *, swapped: bool) -> list[float] | None:
        """The canary's log-probabilities by transformers, once per signature, dtype and way of loading.

        None: done before, or the memory does not hold the model a second time.
        """
        if (signature, dtype, swapped) in self._matched or not _fits_beside(folder):
            return None
        from worker.engines.transformers import reference_log_probabilities

        self._matched.add((signature, dtype, swapped))
        return reference_log_probabilities(folder, dtype)


_Asked = tuple[ScoreRequest | SampleRequest, int]
"""A request, and which of its samples."""


class _Pass:
    """One run: requests go in as room is, results come out as they are ready."""

    def __init__(
        self, llm: Any, loaded: _Loaded, sampling: Sampling, stopped: Callable[[], bool], *, name: str, most: int
    ) -> None:
        self._llm = llm
        self._loaded = loaded
        self._sampling = sampling
        self._stopped = stopped
        self._name = name
        self._most = most
        self._running: dict[str, _Asked] = {}
        self._waiting: deque[_Asked] = deque()

    @property
    def unanswered(self) -> list[_Asked]:
        """What was taken from the feed and has no answer yet."""
        return [*self._running.values(), *self._waiting]

    def run(self, feed: Feed, again: Sequence[_Asked] = ()) -> Iterator[Scored | Sampled]:
        """`again`: what an engine before took from the feed and left unanswered."""
        waiting = self._waiting
        waiting.extend(again)
        added = 0
        try:
            while True:
                if self._stopped():
                    raise Interrupted("stopped in the middle of a pass")
                taken = feed.take()
                check_requests(taken, self._sampling, context=self._loaded.context)
                waiting.extend(self._asked(taken))
                if not waiting and not self._running:
                    if feed.ended:
                        return
                    feed.wait(self._stopped)
                while waiting and len(self._running) < self._most:
                    self._add(f"{self._name}-{added}", *waiting.popleft())
                    added += 1
                for output in self._llm.step() if self._running else ():
                    if output.finished:
                        yield self._result(output)
        except (DoesNotFit, GeneratorExit, Interrupted):
            if self._running:
                self._llm.abort_request(list(self._running))
            raise

    def _asked(self, requests: Sequence[ScoreRequest | SampleRequest]) -> Iterator[_Asked]:
        """Row by row, its scoring first: that writes the prompt into the prefix cache, where its sampling finds it."""
        order: dict[int, int] = {}
        for request in requests:
            order.setdefault(request.row, len(order))
        for request in sorted(requests, key=lambda asked: (order[asked.row], isinstance(asked, SampleRequest))):
            for sample in range(len(request.seeds) if isinstance(request, SampleRequest) else 1):
                yield request, sample

    def _add(self, name: str, request: ScoreRequest | SampleRequest, sample: int) -> None:
        params = scoring_params() if isinstance(request, ScoreRequest) else self._sampling_params(request.seeds[sample])
        self._llm.add_request(name, tokens_input(request.tokens), params)
        self._running[name] = (request, sample)

    def _sampling_params(self, seed: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = self._sampling
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=seed,
            stop=sampling.stop,
            stop_token_ids=sorted(self._loaded.ends),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _result(self, output: Any) -> Scored | Sampled:
        request, sample = self._running.pop(output.request_id)
        read = {"prompt_tokens": len(request.tokens), "cached_tokens": output.num_cached_tokens or 0}
        if isinstance(request, ScoreRequest):
            values = prompt_log_probabilities(output, request.tokens)[request.target_start - 1 :]
            return Scored(row=request.row, log_likelihood=math.fsum(values), tokens=len(values), **read)
        (answer,) = output.outputs
        if answer.finish_reason not in ("stop", "length"):
            raise EngineError(f"vLLM ended an answer of row {request.row} with {answer.finish_reason!r}")
        finished = answer.finish_reason == "stop"
        return Sampled(
            request.row, request.first + sample, answer.text, tokens=len(answer.token_ids), finished=finished, **read
        )


def tokens_input(tokens: Sequence[int]) -> dict[str, Any]:
    return {"type": "token", "prompt_token_ids": list(tokens)}


def scoring_params() -> Any:
    """Log-probabilities of the prompt's own tokens, no others.

    Not greedy: on a GPU one greedy request turns the fast sampler off for all others in its step.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=1,
        temperature=1.0,
        prompt_logprobs=0,
        flat_logprobs=True,
        detokenize=False,
        ignore_eos=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def prompt_log_probabilities(output: Any, tokens: Sequence[int]) -> list[float]:
    """Of the second token and those after it."""
    found = output.prompt_logprobs
    if found is None or list(found.token_ids) != list(tokens[1:]):
        raise EngineError("vLLM gave log-probabilities of other tokens than it was asked for")
    return list(found.logprobs)


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
        return checkpoints.weights_digest(folder) == checkpoints.weights_digest(other)
    except (CheckpointError, OSError):  # the other one is gone since
        return False


def _fits_beside(folder: Path) -> bool:
    """Whether a third of the memory that is free holds the weights."""
    needed = sum(path.stat().st_size for path in checkpoints.weight_files(folder))
    return 3 * needed < os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
