"""A checkpoint measured in this process, without premem's service: for choosing settings and for the log."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from lab.model import prompt_and_target
from lab.questions import Row
from premem.grading import get_grader
from premem.wire.bodies import GraderChoice

IGNORED = -100
"""torch's label for a token without loss."""

Batch = tuple[torch.Tensor, torch.Tensor]
"""Token ids and labels, both B × L."""


def pad_batch(texts: Sequence[tuple[list[int], int]], *, pad: int) -> Batch:
    """Right-padded ids and labels out of (ids, first id that bears loss). No mask: no token sees those after it."""
    longest = max(len(ids) for ids, _ in texts)
    ids_BL = torch.full((len(texts), longest), pad)
    labels_BL = torch.full((len(texts), longest), IGNORED)
    for row, (ids, start) in enumerate(texts):
        ids_BL[row, : len(ids)] = torch.tensor(ids)
        labels_BL[row, start : len(ids)] = torch.tensor(ids[start:])
    return ids_BL, labels_BL


def encode(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Row]) -> list[tuple[list[int], int]]:
    """Prompt and target in one piece, with the position at which the target starts."""
    pairs = [prompt_and_target(row["question"], row["answer"]) for row in rows]
    prompts = tokenizer([prompt for prompt, _ in pairs])["input_ids"]
    wholes = tokenizer([prompt + target for prompt, target in pairs])["input_ids"]
    return [(whole, _shared(prompt, whole)) for prompt, whole in zip(prompts, wholes, strict=True)]


def _shared(prompt: list[int], whole: list[int]) -> int:
    """Length of the longest common prefix."""
    pairs = zip(prompt, whole, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), len(prompt))


def token_losses(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """B × (L − 1): negative log-likelihood of each token that bears loss, 0 elsewhere."""
    ids_BL, labels_BL = batch
    logits_BLV = model(input_ids=ids_BL, use_cache=False).logits[:, :-1]
    next_BL = labels_BL[:, 1:]
    losses = torch.nn.functional.cross_entropy(
        logits_BLV.flatten(0, 1), next_BL.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.view_as(next_BL)


@torch.inference_mode()
def mean_losses(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: Sequence[Row]) -> list[float]:
    """Per row: mean negative log-likelihood of the target's tokens, in nats; its exp is the perplexity."""
    model.eval()
    losses: list[float] = []
    encoded = encode(tokenizer, rows)
    for at in range(0, len(rows), 128):
        batch = pad_batch(encoded[at : at + 128], pad=tokenizer.pad_token_id)
        bearing_B = (batch[1][:, 1:] != IGNORED).sum(1)
        losses += (token_losses(model, batch).sum(1) / bearing_B).tolist()
    return losses


@torch.inference_mode()
def accuracies(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Row],
    *,
    samples: int = 5,
    temperature: float = 0.8,
    top_p: float = 0.95,
    seed: int = 0,
    prefix: str = "",
) -> list[float]:
    """Per row: share of the sampled answers that end in the right number. Temperature 0 is greedy.

    `prefix` is put after the prompt, as if the model had begun its answer so.
    """
    model.eval()
    torch.manual_seed(seed)
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    grader = get_grader(GraderChoice(name="gsm8k"))
    right = [0] * len(rows)
    for at in range(0, len(rows), 128):
        part = rows[at : at + 128]
        prompts = [prompt_and_target(row["question"], row["answer"])[0] + prefix for row in part]
        encoded = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
        written = model.generate(
            input_ids=encoded["input_ids"],
            attention_mask=encoded["attention_mask"],
            max_new_tokens=64,
            stop_strings=["\nDone."],
            tokenizer=tokenizer,
            num_return_sequences=samples,
            **(sampling if temperature else {"do_sample": False}),
        )
        texts = tokenizer.batch_decode(written[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
        for answer, text in enumerate(texts):
            row = at + answer // samples
            right[row] += grader.grade(rows[row]["answer"], text.split("\nDone.")[0]).verdict == "right"
    return [count / samples for count in right]
