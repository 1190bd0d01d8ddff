"""How the transformers engine samples: prompts side by side, left padded, each prompt read once for all its answers.

B answers in a batch, P prompts, T tokens of the longest prompt, V tokens in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from premem.errors import Interrupted
from premem.wire.jobs import Sampling
from premem_worker.engines.requests import Sampled, SampleRequest
from premem_worker.engines.transformers.drawing import Chance, draw
from premem_worker.engines.transformers.scoring import only_last
from premem_worker.engines.transformers.texts import GrowingText


@dataclass(frozen=True, slots=True)
class Wanted:
    """One answer that is asked for."""

    request: SampleRequest
    sample: int


def each_wanted(requests: Sequence[SampleRequest]) -> list[Wanted]:
    return [Wanted(request, sample) for request in requests for sample in range(len(request.seeds))]


def sampling_batches(
    wanted: Sequence[Wanted], *, batch_rows: int, batch_tokens: int, cache_tokens: int, max_tokens: int
) -> list[list[Wanted]]:
    """Neighbours in length, at most `batch_rows` answers.

    `batch_tokens` bounds P × T of the first pass, `cache_tokens` what the answers can fill together, both beyond a
    single one.
    """
    batches: list[list[Wanted]] = []
    prompts: set[int] = set()
    for one in sorted(wanted, key=lambda one: len(one.request.tokens)):
        prompt, length = id(one.request), len(one.request.tokens)
        rows = len(batches[-1]) + 1 if batches else 0
        if (
            not batches
            or rows > batch_rows
            or len(prompts | {prompt}) * length > batch_tokens
            or rows * (length + max_tokens) > cache_tokens
        ):
            batches.append([])
            prompts = set()
        batches[-1].append(one)
        prompts.add(prompt)
    return batches


def sample_batch(
    model: Any,
    batch: Sequence[Wanted],
    *,
    tokenizer: Any,
    ends: frozenset[int],
    sampling: Sampling,
    device: torch.device,
    stopped: Callable[[], bool],
) -> Iterator[tuple[int, Sampled]]:
    """Each answer's place in the batch and the answer, as soon as it is finished. Raises Interrupted."""
    first = {id(wanted.request): place for place, wanted in reversed(list(enumerate(batch)))}
    answers = [
        _Answer(place, wanted, tokenizer, ends, sampling, shares=first[id(wanted.request)] != place)
        for place, wanted in enumerate(batch)
    ]
    running = _Running(model, [answer.wanted.request for answer in answers], device)
    while True:
        if stopped():
            raise Interrupted("stopped while answers were sampled")
        uniforms_B = None
        if sampling.temperature > 0:
            drawn = [answer.chance.next() for answer in answers]
            uniforms_B = torch.tensor(drawn, dtype=torch.float64, device=device)
        tokens_B = running.draw(uniforms_B, sampling)
        left = []
        for place, (answer, token) in enumerate(zip(answers, tokens_B.tolist(), strict=True)):
            if (sampled := answer.append(token)) is None:
                left.append(place)
            else:
                yield answer.place, sampled
        if not left:
            return
        if len(left) < len(answers):
            answers = [answers[place] for place in left]
            tokens_B = running.keep(left, tokens_B)
        running.read(tokens_B)


class _Answer:
    """One answer while it grows."""

    def __init__(
        self, place: int, wanted: Wanted, tokenizer: Any, ends: frozenset[int], sampling: Sampling, *, shares: bool
    ) -> None:
        self.place = place
        self.wanted = wanted
        self.chance = Chance(wanted.request.seeds[wanted.sample])
        self._text = GrowingText(tokenizer, wanted.request.tokens, sampling.stop)
        self._ends = ends
        self._left = sampling.max_tokens
        self._tokens = 0
        self._shares = shares
        """Whether its prompt is read for an answer before it."""

    def append(self, token: int) -> Sampled | None:
        """The answer if this token finishes it."""
        self._tokens += 1
        self._left -= 1
        finished = token in self._ends or self._text.append(token)
        if not finished and self._left > 0:
            return None
        request = self.wanted.request
        sample = request.first + self.wanted.sample
        return Sampled(
            request.row,
            sample,
            self._text.text,
            tokens=self._tokens,
            finished=finished,
            prompt_tokens=len(request.tokens),
            cached_tokens=len(request.tokens) if self._shares else 0,
        )


class _Running:
    """The model's state for the answers that are not finished: their cache, and the logits of their next tokens."""

    def __init__(self, model: Any, requests: Sequence[SampleRequest], device: torch.device) -> None:
        self._model = model
        self._device = device
        prompts = list({id(request): request for request in requests}.values())
        places = {id(prompt): place for place, prompt in enumerate(prompts)}
        self._mask_BT: Tensor | None
        self._next_B: Tensor
        """The position of the token that is read next."""
        self._read_prompts(prompts)
        self._select([places[id(request)] for request in requests])

    @torch.inference_mode()
    def draw(self, uniforms_B: Tensor | None, sampling: Sampling) -> Tensor:
        return draw(self._logits_BV, uniforms_B, temperature=sampling.temperature, top_p=sampling.top_p)

    def keep(self, places: Sequence[int], tokens_B: Tensor) -> Tensor:
        """Only these answers go on; their tokens."""
        self._select(places)
        return tokens_B[torch.tensor(places, device=self._device)]

    @torch.inference_mode()
    def read(self, tokens_B: Tensor) -> None:
        if self._mask_BT is not None:
            self._mask_BT = torch.cat([self._mask_BT, self._mask_BT.new_ones(len(tokens_B), 1)], dim=1)
        out = self._model(
            input_ids=tokens_B[:, None],
            attention_mask=self._mask_BT,
            position_ids=self._next_B[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        self._next_B = self._next_B + 1
        self._logits_BV = out.logits[:, -1].float()

    @torch.inference_mode()
    def _read_prompts(self, prompts: Sequence[SampleRequest]) -> None:
        lengths = [len(prompt.tokens) for prompt in prompts]
        longest = max(lengths)
        tokens_PT = torch.zeros(len(prompts), longest, dtype=torch.long)
        mask_PT = torch.zeros_like(tokens_PT)
        for place, prompt in enumerate(prompts):
            tokens_PT[place, longest - lengths[place] :] = torch.tensor(prompt.tokens)
            mask_PT[place, longest - lengths[place] :] = 1
        padded = min(lengths) < longest
        self._mask_BT = mask_PT.to(self._device) if padded else None
        self._next_B = torch.tensor(lengths, device=self._device)
        out = self._model(
            input_ids=tokens_PT.to(self._device),
            attention_mask=self._mask_BT,
            position_ids=(mask_PT.cumsum(dim=1) - 1).clamp(min=0).to(self._device) if padded else None,
            use_cache=True,
            **only_last(self._model, 1),
        )
        self._cache = out.past_key_values
        self._logits_BV = out.logits[:, -1].float()

    @torch.inference_mode()
    def _select(self, places: Sequence[int]) -> None:
        index = torch.tensor(places, device=self._device)
        self._cache.batch_select_indices(index)
        self._logits_BV = self._logits_BV[index]
        self._next_B = self._next_B[index]
        if self._mask_BT is not None:
            self._mask_BT = self._mask_BT[index]
