"""What the files of a checkpoint say of its tokens, read by the `tokenizers` library alone.

The service shows these tokens before anything is scored, and a worker holds the tokenizer that transformers makes to them:
transformers builds some anew by the name of their class, and then they are no longer those of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from premem.errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WHOLE = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
SPECIAL = "special_tokens_map.json"
ADDED = "added_tokens.json"
FILES = (WHOLE, SETTINGS, SPECIAL, ADDED)
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def read_tokenizer(folder: Path) -> Tokenizer:
    """That of tokenizer.json with the tokens that the files beside it add. It neither cuts nor pads.

    Raises CheckpointError where a file cannot be read, or where an added token gets another id than its file says;
    ImportError where `tokenizers` is not installed.
    """
    from tokenizers import AddedToken, Tokenizer

    path = folder / WHOLE
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library knows no kind of its own
        raise CheckpointError(f"{path} cannot be read: {str(error)[:200]}") from error
    # Some are saved with what their training cut and padded; nothing is cut when a row is scored.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for number, token in sorted(tokens_with_ids(folder).items()):
        content = str(token["content"])
        if tokenizer.token_to_id(content) is None:
            tokenizer.add_tokens([AddedToken(**token)])
        if (got := tokenizer.token_to_id(content)) != number:
            raise CheckpointError(
                f"the tokenizer files of {folder} contradict each other: {SETTINGS} or {ADDED} gives {content!r} the id "
                f"{number}, and beside {WHOLE} it gets {got}; save the tokenizer again with the one that the model was "
                "trained with (tokenizer.save_pretrained)"
            )
    tokenizer.add_special_tokens([content for content in named_tokens(folder) if content])
    return tokenizer


def tokens_with_ids(folder: Path) -> dict[int, dict[str, Any]]:
    """The tokens that are added to a vocabulary by the files beside it, by id: content and how it is matched in a text.

    Where transformers looks for them: added_tokens_decoder in tokenizer_config.json, else added_tokens.json.
    """
    decoder = read_object(folder / SETTINGS).get("added_tokens_decoder")
    flags = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    try:
        if isinstance(decoder, dict):
            return {
                int(number): {flag: token[flag] for flag in flags if flag in token} for number, token in decoder.items()
            }
        special = set(named_tokens(folder))
        return {
            int(number): {"content": content, "special": content in special, "normalized": content not in special}
            for content, number in read_object(folder / ADDED).items()
        }
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the added tokens of {folder} cannot be read ({SETTINGS}, {ADDED}): {error}") from error


def named_tokens(folder: Path) -> list[str]:
    """The special tokens that tokenizer_config.json and special_tokens_map.json name, each once."""
    settings, special = read_object(folder / SETTINGS), read_object(folder / SPECIAL)
    told = settings if "added_tokens_decoder" in settings else settings | special
    found = [told.get(name) for name in NAMED_TOKENS]
    for name in ("additional_special_tokens", "extra_special_tokens"):
        several = told.get(name)
        found += several.values() if isinstance(several, dict) else several if isinstance(several, list) else ()
    return list(dict.fromkeys(_contents(found)))


def _contents(tokens: list[Any]) -> Iterator[str]:
    for token in tokens:
        content = token.get("content") if isinstance(token, dict) else token
        if isinstance(content, str) and content:
            yield content


def read_object(path: Path) -> dict[str, Any]:
    """Empty where there is no such file. Raises CheckpointError."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return content
