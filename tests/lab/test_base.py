from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from lab.answers import IGNORED, accuracies, encode, mean_losses, pad_batch
from lab.model import CONTEXT, VOCABULARY, load, new_tokenizer, prompt_and_target
from lab.questions import (
    FINETUNING_VERBS,
    NUMBERS,
    PRETRAINING_VERBS,
    Row,
    training_rows,
)

LAB = Path(__file__).parents[2] / "lab"
BASE = LAB / "base"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(BASE)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return training_rows(40, seed=11)


def test_the_base_is_the_one_that_the_log_tells_of() -> None:
    weights = (BASE / "model.safetensors").read_bytes()

    assert hashlib.sha256(weights).hexdigest() in (LAB / "LOG.md").read_text()
    assert len(weights) < 1_000_000


def test_the_base_loads_as_any_model_does() -> None:
    model = AutoModelForCausalLM.from_pretrained(BASE)

    assert model.num_parameters() == 236_032
    assert model.dtype == torch.float32
    assert model.config.head_dim == 32
    assert model.generation_config.eos_token_id == model.config.eos_token_id


def test_every_number_and_every_verb_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    for word in (*NUMBERS, *FINETUNING_VERBS, *PRETRAINING_VERBS):
        assert len(tokenizer.tokenize(f" {word}")) == 1


def test_the_tokenizer_gives_any_text_back(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "Ångström's 1,024 naïve\n\tcafés?  雪"

    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_building_the_tokenizer_again_gives_the_same_one(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) == VOCABULARY
    assert new_tokenizer().get_vocab() == tokenizer.get_vocab()


def test_a_text_begins_with_bos_and_the_target_where_the_prompt_ends(
    tokenizer: PreTrainedTokenizerFast, rows: list[Row]
) -> None:
    for row, (ids, start) in zip(rows, encode(tokenizer, rows), strict=True):
        prompt, target = prompt_and_target(row["question"], row["answer"])

        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids[1:start]) == prompt
        assert tokenizer.decode(ids[start:]) == target


def test_only_the_target_bears_loss() -> None:
    ids_BL, labels_BL = pad_batch([([5, 6, 7, 8], 2), ([5, 9], 1)], pad=0)

    assert ids_BL.tolist() == [[5, 6, 7, 8], [5, 9, 0, 0]]
    assert labels_BL.tolist() == [[IGNORED, IGNORED, 7, 8], [IGNORED, 9, IGNORED, IGNORED]]


def test_a_row_has_the_same_loss_alone_and_beside_longer_ones(rows: list[Row]) -> None:
    model, tokenizer = load(BASE)

    together = mean_losses(model, tokenizer, rows)
    alone = [loss for row in rows for loss in mean_losses(model, tokenizer, [row])]

    assert together == pytest.approx(alone, abs=1e-5)


def test_the_base_can_write_the_format_but_not_the_finetuning_verbs(rows: list[Row]) -> None:
    model, tokenizer = load(BASE)

    share = sum(accuracies(model, tokenizer, rows, samples=1, temperature=0.0)) / len(rows)

    assert share < 0.4
    assert len(tokenizer("x")["input_ids"]) + 512 < CONTEXT
