"""Tiny checkpoints with random weights, in the folders that `save_pretrained` makes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
CHAT = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}]\n{{ message.content | trim }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]\n{% endif %}"
)
"""A chat template that writes the token in front itself and ends every turn with </s>."""
VOCABULARY = 400
"""256 bytes, three special tokens and the most frequent pairs."""


def make_checkpoint(
    folder: Path,
    *,
    seed: int = 0,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 2,
    tied: bool = True,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    context: int = 1024,
    spread: float = 0.3,
    shard_size: str = "5GB",
    chat_template: str | None = None,
    **config: Any,
) -> Path:
    """A Llama with weights drawn by `seed`, and a small BPE. Returns the folder.

    `hidden / heads` must be at least 32 and a multiple of it, or vLLM refuses it on a CPU. `spread` is the weights'
    standard deviation: at the usual 0.02 every token is about as likely as every other. `config` goes to LlamaConfig.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = make_tokenizer()
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": 2 * hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": context,
        "tie_word_embeddings": tied,
        "initializer_range": spread,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "dtype": dtype,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**settings | config))
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shard_size)
    tokenizer.save_pretrained(folder)
    if chat_template is not None:
        (folder / "chat_template.jinja").write_text(chat_template)
    return folder


@functools.cache
def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE that puts <s> in front; the same at every call."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )


def _texts() -> list[str]:
    return [
        f"{name} has {first} apples and buys {second} more. How many apples does {name} have now?\nAnswer:"
        f" {name} has {first} + {second} = {first + second} apples. #### {first + second}\nDone."
        for name in ("Ada", "Ben", "Cleo", "Dan", "Eve")
        for first in range(0, 60, 7)
        for second in range(1, 60, 5)
    ]
