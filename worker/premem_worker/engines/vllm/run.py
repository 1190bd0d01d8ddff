"""One pass of the vLLM engine: what is asked goes in as room is, what is answered comes out as it is ready."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from premem.errors import EngineError, Interrupted
from premem.wire.jobs import Sampling
from premem_worker.checkpoints.folder import Signature
from premem_worker.checkpoints.headers import Dtype
from premem_worker.engines.feed import Feed
from premem_worker.engines.loading import DoesNotFit, check_requests
from premem_worker.engines.requests import Sampled, SampleRequest, Scored, ScoreRequest


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the engine has in memory."""

    folder: Path
    stamp: tuple[object, ...]
    signature: Signature
    dtype: Dtype
    tokenizer: Any
    ends: frozenset[int]
    context: int
    canary: tuple[float, ...]
    """Without an adapter."""
    adapter: Any = None
    """The LoRARequest that goes with everything that is asked."""
    adapted: tuple[Path, tuple[object, ...]] | None = None
    """The adapter's folder and stamp."""


Asked = tuple[ScoreRequest | SampleRequest, int]
"""A request, and which of its samples."""


class Pass:
    """One run: requests go in as room is, results come out as they are ready."""

    def __init__(
        self, llm: Any, loaded: Loaded, sampling: Sampling, stopped: Callable[[], bool], *, name: str, most: int
    ) -> None:
        self._llm = llm
        self._loaded = loaded
        self._sampling = sampling
        self._stopped = stopped
        self._name = name
        self._most = most
        self._running: dict[str, Asked] = {}
        self._waiting: deque[Asked] = deque()

    @property
    def unanswered(self) -> list[Asked]:
        """What was taken from the feed and has no answer yet."""
        return [*self._running.values(), *self._waiting]

    def run(self, feed: Feed, again: Sequence[Asked] = ()) -> Iterator[Scored | Sampled]:
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

    def _asked(self, requests: Sequence[ScoreRequest | SampleRequest]) -> Iterator[Asked]:
        """Row by row, its scoring first: that writes the prompt into the prefix cache, where its sampling finds it."""
        order: dict[int, int] = {}
        for request in requests:
            order.setdefault(request.row, len(order))
        for request in sorted(requests, key=lambda asked: (order[asked.row], isinstance(asked, SampleRequest))):
            for sample in range(len(request.seeds) if isinstance(request, SampleRequest) else 1):
                yield request, sample

    def _add(self, name: str, request: ScoreRequest | SampleRequest, sample: int) -> None:
        params = scoring_params() if isinstance(request, ScoreRequest) else self._sampling_params(request.seeds[sample])
        self._llm.add_request(name, tokens_input(request.tokens), params, lora_request=self._loaded.adapter)
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
