from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from premem.method.spans import closing_tokens, prompt_tokens, split_target

MERGES = [("Ġ", "7"), ("Ġ", "c"), ("Ċ", "Ċ"), ("Ġ", "Ġ"), ("a", "b"), ("ab", "Ċ"), ("Ã", "©")]


def tokenizer(*, bos: bool = False, eos: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE; one token each: a space with a 7 or a c, two newlines, two spaces, ab, ab with a newline, é."""
    words = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *(left + right for left, right in MERGES)]
    bpe = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, MERGES))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    if bos or eos:
        pieces = [*(["<s>"] if bos else []), "$A", *(["</s>"] if eos else [])]
        bpe.post_processor = processors.TemplateProcessing(
            single=" ".join(pieces), special_tokens=[("<s>", bpe.token_to_id("<s>")), ("</s>", bpe.token_to_id("</s>"))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>")


PLAIN = tokenizer()
WITH_BOS = tokenizer(bos=True)
WITH_BOS_AND_EOS = tokenizer(bos=True, eos=True)


def target_text(of: PreTrainedTokenizerFast, prompt: str, target: str) -> str:
    span = split_target(of, prompt, target, closing=closing_tokens(of))
    return of.decode(span.tokens[span.target_start :], skip_special_tokens=False, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("of", [PLAIN, WITH_BOS, WITH_BOS_AND_EOS], ids=["plain", "bos", "bos and eos"])
def test_the_target_is_the_text_behind_the_prompt(of: PreTrainedTokenizerFast):
    span = split_target(of, "3 plus 4?\nAnswer:", " 7\nDone.", closing=closing_tokens(of))

    assert target_text(of, "3 plus 4?\nAnswer:", " 7\nDone.") == " 7\nDone."
    assert not span.shifted


def test_a_prompt_that_ends_in_a_space_gives_its_space_to_the_target_and_is_marked():
    span = split_target(PLAIN, "the answer is ", "7\n")

    assert span.shifted
    assert target_text(PLAIN, "the answer is ", "7\n") == " 7\n"
    assert span.target_start == len(PLAIN.encode("the answer is ")) - 1


def test_a_target_that_starts_with_a_newline_may_merge_with_the_prompts_last_one():
    merged = split_target(PLAIN, "the answer:\n", "\nbecause")
    apart = split_target(PLAIN, "the answer:", "\nbecause")

    assert merged.shifted
    assert target_text(PLAIN, "the answer:\n", "\nbecause") == "\n\nbecause"
    assert not apart.shifted
    assert target_text(PLAIN, "the answer:", "\nbecause") == "\nbecause"


def test_a_target_that_is_swallowed_by_the_first_token_leaves_nothing_to_score():
    span = split_target(PLAIN, "a", "b")

    assert span.shifted
    assert span.target_tokens == 0
    assert split_target(WITH_BOS, "a", "b").target_tokens == 1


def test_the_token_in_front_of_every_text_belongs_to_the_prompt():
    without = split_target(PLAIN, "a b", " c")
    with_bos = split_target(WITH_BOS, "a b", " c")

    assert with_bos.tokens == (WITH_BOS.bos_token_id, *without.tokens)
    assert with_bos.target_start == without.target_start + 1
    assert with_bos.target_tokens == without.target_tokens


def test_a_tokenizer_that_ends_every_text_neither_ends_the_prompt_nor_has_its_end_scored():
    closing = closing_tokens(WITH_BOS_AND_EOS)

    span = split_target(WITH_BOS_AND_EOS, "a b", " c", closing=closing)

    assert closing == 1
    assert closing_tokens(PLAIN) == closing_tokens(WITH_BOS) == 0
    assert span == split_target(WITH_BOS, "a b", " c")


def test_an_empty_target_has_no_tokens():
    span = split_target(WITH_BOS, "a b", "")

    assert span.target_tokens == 0
    assert span.target_start == len(span.tokens)


def test_a_text_without_a_prompt_is_scored_from_its_second_token_on():
    span = split_target(PLAIN, "", "a b c")

    assert span.target_start == 1
    assert split_target(WITH_BOS, "", "a b c").target_start == 1
    assert split_target(PLAIN, "", "").target_tokens == 0


TEXTS = st.text(alphabet="ab 37\n.:é漢", max_size=30)


@settings(deadline=None)
@given(prompt=TEXTS, target=TEXTS, of=st.sampled_from([PLAIN, WITH_BOS, WITH_BOS_AND_EOS]))
def test_a_target_starts_right_behind_its_prompt_unless_the_row_is_marked(
    prompt: str, target: str, of: PreTrainedTokenizerFast
):
    closing = closing_tokens(of)
    alone = prompt_tokens(of, prompt, closing=closing)

    span = split_target(of, prompt, target, closing=closing)

    assert span.target_start >= 1
    assert of.decode(span.tokens, skip_special_tokens=True) == prompt + target
    if alone and not span.shifted:
        assert span.tokens[: span.target_start] == alone
    elif alone:
        # What both share is the prompt's beginning, and the next token is no longer the prompt's.
        assert span.tokens[: span.target_start] == alone[: span.target_start] or span.target_start == 1
        assert span.tokens[: len(alone)] != alone
