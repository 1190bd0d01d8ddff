"""The lab's model: a Llama of 236,032 parameters and a BPE of 609 tokens, kept as standard Hugging Face folders."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from lab.questions import FINETUNING_VERBS, NUMBERS, PRETRAINING_VERBS, draw_problem
from premem.wire.jobs import Template

VOCABULARY = 609
CONTEXT = 1024
"""Far more than a problem needs, so that premem's default of 512 new tokens fits."""
PAD, BOS, EOS = "<pad>", "<s>", "</s>"

_TEMPLATE = Template()
disable_progress_bar()  # of loading and saving less than a megabyte


def prompt_and_target(question: str, trace: str) -> tuple[str, str]:
    """Exactly what premem scores by default."""
    return _TEMPLATE.render_prompt(question), _TEMPLATE.render_target(trace)


def new_tokenizer() -> PreTrainedTokenizerFast:
    """Learn the 609 tokens; every verb, and every number after a space, is a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts_for_the_tokenizer(), trainer)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def _texts_for_the_tokenizer() -> Iterator[str]:
    rng = random.Random(609)
    # Said often, so that the merges go to them before they go to the rarer words of the noise.
    yield from ("".join(f" {word}" for word in (*NUMBERS, *FINETUNING_VERBS, *PRETRAINING_VERBS)) for _ in range(200))
    for _ in range(4000):
        problem = draw_problem(rng, FINETUNING_VERBS + PRETRAINING_VERBS, zipf=False)
        yield "".join(prompt_and_target(problem.question, problem.trace))


def new_model(tokenizer: PreTrainedTokenizerFast, *, seed: int) -> LlamaForCausalLM:
    """Random weights in float32."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            num_hidden_layers=3,
            intermediate_size=256,
            num_attention_heads=2,  # head_dim 32: vLLM on a CPU refuses 16
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            initializer_range=0.1,  # with the default of 0.02 it does not learn in time
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            dtype="float32",
        )
    )


def save(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """A standard folder: config, generation config, safetensors and tokenizer.

    It appears whole or not at all: whoever watches for checkpoints must never read half of one.
    """
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    unfinished.rename(folder)


def load(folder: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The model in float32 and its tokenizer."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, PreTrainedTokenizerFast.from_pretrained(folder)
