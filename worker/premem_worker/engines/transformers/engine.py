"""The engine for where vLLM is not installed: Hugging Face transformers in this process, on a GPU if there is one."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open

from premem.errors import CheckpointError, EngineError, Interrupted
from premem.method.spans import Tokenizer
from premem.wire.jobs import Sampling
from premem_worker.checkpoints import folder as checkpoints
from premem_worker.checkpoints import headers
from premem_worker.checkpoints.adapters import attached
from premem_worker.checkpoints.folder import Signature
from premem_worker.checkpoints.headers import Dtype
from premem_worker.engines.feed import Feed
from premem_worker.engines.loading import (
    canary,
    check_finite,
    check_requests,
    check_vocabulary,
    first_line,
    is_out_of_memory,
    load_tokenizer,
)
from premem_worker.engines.requests import Embedded, EmbedRequest, Sampled, SampleRequest, Scored, ScoreRequest
from premem_worker.engines.transformers.embedding import embed_batch
from premem_worker.engines.transformers.sampling import Wanted, each_wanted, sample_batch, sampling_batches
from premem_worker.engines.transformers.scoring import log_probabilities, score_batch, scoring_batches

Asked = TypeVar("Asked")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Loaded:
    folder: Path
    stamp: tuple[object, ...]
    signature: Signature
    dtype: Dtype
    model: Any
    tokenizer: Any
    ends: frozenset[int]
    context: int
    vocabulary: int


class TransformersEngine:
    """Batches made by length; a row leaves its batch as soon as it is finished."""

    name = "transformers"
    continuous = False

    def __init__(self, *, device: str | None = None, batch_tokens: int | None = None, batch_rows: int | None = None):
        """`device` None: the GPU if torch sees one. `batch_tokens` bounds a forward pass, `batch_rows` the answers
        that are sampled side by side."""
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        gpu = self.device.type == "cuda"
        self.batch_tokens = batch_tokens or (32_768 if gpu else 4_096)
        self.batch_rows = batch_rows or (256 if gpu else 128)
        self._loaded: _Loaded | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        tokenizer: Tokenizer = self._now().tokenizer
        return tokenizer

    @property
    def context(self) -> int:
        return self._now().context

    @property
    def produced_by(self) -> dict[str, str]:
        import transformers

        gpu = self.device.type == "cuda"
        return {
            "engine": self.name,
            "versions": f"transformers {transformers.__version__}, torch {torch.__version__}",
            "dtype": self._now().dtype,
            "device": torch.cuda.get_device_name(self.device) if gpu else "cpu",
        }

    @property
    def cache_bytes(self) -> int:
        """What answers can fill that are sampled together, where each takes the whole context."""
        loaded = self._now()
        return min(self._cache_bytes(), self.batch_rows * loaded.context * _bytes_per_token(loaded.model))

    def load(self, checkpoint: Path, *, dtype: str | None, adapter: Path | None = None) -> None:
        """An adapter is merged in memory."""
        try:
            signature = checkpoints.inspect(checkpoint)
            named = checkpoints.named_dtype(signature, dtype)
            stamp: tuple[object, ...] = checkpoints.stamp(checkpoint)
            if adapter is not None:
                stamp = (*stamp, str(adapter), *checkpoints.stamp(adapter))
            held = self._loaded
            if held is not None and (held.folder, held.stamp, held.dtype) == (checkpoint, stamp, named):
                return
            swapped = held is not None and held.dtype == named and not adapter and _swap(held, checkpoint, signature)
            model = held.model if held is not None and swapped else None
            tokenizer = held.tokenizer if held is not None and swapped else None
            self._loaded = held = None  # the old weights make room before the new ones come
            if adapter is not None:
                model = attached(self._fresh_model(checkpoint, named), adapter, base=checkpoint)
            self._loaded = self._load(checkpoint, signature, named, stamp, model, tokenizer)
            check_finite(checkpoint, self.canary())
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
        try:
            yield from self._run(Feed.of(requests), sampling, stopped)
        except FloatingPointError as error:
            raise CheckpointError(f"{loaded.folder}: {error}; look for NaN or infinite weights") from error

    def embed(self, requests: Sequence[EmbedRequest], *, stopped: Callable[[], bool]) -> Iterator[Embedded]:
        loaded = self._now()
        for request in requests:
            if not 1 <= len(request.tokens) <= loaded.context:
                raise ValueError(f"row {request.row} does not fit into the model's context of {loaded.context} tokens")
        try:
            for batch in scoring_batches(requests, batch_tokens=self.batch_tokens):
                if stopped():
                    raise Interrupted("stopped while prompts were embedded")
                yield from self._fitting(batch, lambda part: embed_batch(loaded.model, part, self.device))
        except FloatingPointError as error:
            raise CheckpointError(f"{loaded.folder}: {error}; look for NaN or infinite weights") from error

    def close(self) -> None:
        self._loaded = None
        self._give_memory_back()

    def kill(self) -> None:
        """Nothing: it has no process of its own."""

    def _now(self) -> _Loaded:
        if self._loaded is None:
            raise EngineError("no checkpoint is loaded")
        return self._loaded

    def _load(
        self,
        folder: Path,
        signature: Signature,
        dtype: Dtype,
        stamp: tuple[object, ...],
        model: Any | None,
        tokenizer: Any | None,
    ) -> _Loaded:
        model = self._fresh_model(folder, dtype) if model is None else model
        tokenizer = load_tokenizer(folder) if tokenizer is None else tokenizer
        vocabulary = model.get_input_embeddings().weight.shape[0]
        check_vocabulary(folder, tokenizer, vocabulary)
        return _Loaded(
            folder=folder,
            stamp=stamp,
            signature=signature,
            dtype=dtype,
            model=model,
            tokenizer=tokenizer,
            ends=checkpoints.end_tokens(folder, tokenizer_eos=tokenizer.eos_token_id),
            context=checkpoints.context_length(folder) or 2048,
            vocabulary=vocabulary,
        )

    def _fresh_model(self, folder: Path, dtype: Dtype) -> Any:
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            model, found = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except (ImportError, MemoryError) as error:
            raise EngineError(f"transformers cannot load {folder} here: {first_line(error)}") from error
        except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"transformers cannot load {folder}: {first_line(error)}") from error
        # Left alone, transformers fills what is missing with chance and goes on.
        for what in ("missing", "unexpected", "mismatched"):
            if keys := found[f"{what}_keys"]:
                raise CheckpointError(
                    f"the weights of {folder} do not fit its config: {what} {', '.join(sorted(map(str, keys))[:3])}"
                    f"{' and others' if len(keys) > 3 else ''}"
                )
        try:
            return model.to(self.device).eval()
        except torch.OutOfMemoryError as error:
            raise EngineError(f"{folder} does not fit into the memory of {self.device}: {first_line(error)}") from error

    def canary(self) -> list[float]:
        """The log-probabilities of a fixed sequence of tokens, from the second one on."""
        loaded = self._now()
        tokens_BT = torch.tensor([canary(loaded.vocabulary)], device=self.device)
        values: list[float] = log_probabilities(loaded.model, tokens_BT)[0].tolist()
        return values

    def _run(self, feed: Feed, sampling: Sampling, stopped: Callable[[], bool]) -> Iterator[Scored | Sampled]:
        """A batch at a time, scores before samples; what has come meanwhile is sorted into the batches left."""
        scoring: list[list[ScoreRequest]] = []
        sampled: list[list[Wanted]] = []
        while True:
            taken = feed.take()
            check_requests(taken, sampling, context=self._now().context)
            if scores := [request for request in taken if isinstance(request, ScoreRequest)]:
                left = [request for batch in scoring for request in batch]
                scoring = scoring_batches([*left, *scores], batch_tokens=self.batch_tokens)
            if samples := [request for request in taken if isinstance(request, SampleRequest)]:
                waiting = [wanted for batch in sampled for wanted in batch]
                sampled = self._sampling_batches([*waiting, *each_wanted(samples)], sampling)
            if scoring:
                yield from self._score(scoring.pop(0), stopped)
            elif sampled:
                yield from self._sample(sampled.pop(0), sampling, stopped)
            elif feed.ended:
                return
            else:
                feed.wait(stopped)

    def _score(self, batch: Sequence[ScoreRequest], stopped: Callable[[], bool]) -> Iterator[Scored]:
        model = self._now().model
        if stopped():
            raise Interrupted("stopped while references were scored")
        yield from self._fitting(batch, lambda part: score_batch(model, part, self.device))

    def _sampling_batches(self, wanted: Sequence[Wanted], sampling: Sampling) -> list[list[Wanted]]:
        return sampling_batches(
            wanted,
            batch_rows=self.batch_rows,
            batch_tokens=self.batch_tokens,
            cache_tokens=self._cache_bytes() // _bytes_per_token(self._now().model),
            max_tokens=sampling.max_tokens,
        )

    def _sample(self, batch: Sequence[Wanted], sampling: Sampling, stopped: Callable[[], bool]) -> Iterator[Sampled]:
        loaded = self._now()

        def sample(part: Sequence[Wanted]) -> Iterator[tuple[int, Sampled]]:
            return sample_batch(
                loaded.model,
                part,
                tokenizer=loaded.tokenizer,
                ends=loaded.ends,
                sampling=sampling,
                device=self.device,
                stopped=stopped,
            )

        yield from self._fitting(batch, sample)

    def _fitting(
        self, batch: Sequence[Asked], work: Callable[[Sequence[Asked]], Iterator[tuple[int, Result]]]
    ) -> Iterator[Result]:
        """What `work` makes of the batch; in two halves where memory does not hold it whole."""
        done: set[int] = set()
        try:
            for place, result in work(batch):
                done.add(place)
                yield result
            return
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        self._give_memory_back()
        left = [request for place, request in enumerate(batch) if place not in done]
        middle = (len(left) + 1) // 2
        for half in (left[:middle], left[middle:]):
            try:
                for _, result in work(half) if half else ():
                    yield result
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                raise EngineError(
                    f"{self.device} has too little memory for {len(half)} rows side by side: set --max-sequences "
                    f"lower ({first_line(error)})"
                ) from error

    def _cache_bytes(self) -> int:
        """A fixed share of the memory there is, not of what happens to be free: batches must not depend on that."""
        if self.device.type == "cuda":
            return int(0.4 * torch.cuda.get_device_properties(self.device).total_memory)
        return 2**30

    def _give_memory_back(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def reference_log_probabilities(folder: Path, dtype: Dtype, *, adapter: Path | None = None) -> list[float]:
    """Of the canary, by a plain forward pass on the CPU: what another engine has to agree with."""
    engine = TransformersEngine(device="cpu")
    try:
        engine.load(folder, dtype=dtype, adapter=adapter)
        return engine.canary()
    finally:
        engine.close()


@torch.inference_mode()
def _swap(held: _Loaded, folder: Path, signature: Signature) -> bool:
    """Write the weights of `folder` over those in memory. False, with nothing written: the model must be made anew.

    The model was loaded from the same names and shapes, and nothing was missing then. So it is enough that each name in
    the files is the name of a weight in memory, and that transformers takes them over unchanged.
    """
    if signature != held.signature or signature.quantization is not None or _converts(held.model):
        return False
    weights = held.model.state_dict()
    named = {tensor.name: tensor.shape for tensor in signature.tensors}
    if any(name not in weights or tuple(weights[name].shape) != shape for name, shape in named.items()):
        return False
    written = {weights[name].data_ptr() for name in named}
    if any(weight.data_ptr() not in written for weight in weights.values()):
        return False
    try:
        for path in headers.weight_files(folder):
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (it is no mapping)
                    weights[name].copy_(file.get_tensor(name))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"the weights of {folder} cannot be read: {first_line(error)}") from error
    return True


def _converts(model: Any) -> bool:
    """Whether transformers makes other tensors out of those in the files, as it does where experts are fused."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightRenaming
    except ImportError:
        return True
    return not all(isinstance(entry, WeightRenaming) for entry in get_model_conversion_mapping(model))


def _bytes_per_token(model: Any) -> int:
    """Of the cache: keys and values of each layer."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)
