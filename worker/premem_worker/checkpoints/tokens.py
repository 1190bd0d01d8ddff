"""The tokenizer in a checkpoint's folder, by its files alone: which there are, and what two of them have in common."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any, cast

from premem.errors import CheckpointError
from premem.tokenizer_files import ADDED, SETTINGS, SPECIAL, WHOLE, named_tokens, read_object, tokens_with_ids

PIECES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
"""Of sentencepiece, or of tiktoken under the same name."""
PARTS = ("vocab.json", "merges.txt", "vocab.txt", "tekken.json")
TOKENIZER_FILES = (*PIECES, *PARTS, WHOLE, SETTINGS, SPECIAL, ADDED)
CHAT_TEMPLATE = "chat_template.jinja"
_DECIDING = ("bos_token", "eos_token", "unk_token")
_DECIDING_WITHOUT_THE_WHOLE = (
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "do_lower_case",
    "legacy",
    "sp_model_kwargs",
    "split_special_tokens",
)
"""What transformers asks only where it builds a tokenizer itself, for want of tokenizer.json."""
_PLAIN_CLASSES = ("PreTrainedTokenizer", "TokenizersBackend", "")

Stamp = tuple[tuple[str, int, int, int], ...]


def stamp(folder: Path) -> Stamp:
    """Changes when a file of the tokenizer is replaced or rewritten: name, size, time and inode of each."""
    found = []
    for name in sorted((*TOKENIZER_FILES, CHAT_TEMPLATE)):
        if (path := folder / name).is_file():
            status = path.stat()
            found.append((name, status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(found)


def has_tokenizer(folder: Path) -> bool:
    """Whether there is one at all. Settings, special tokens or merges alone are none."""
    return any((folder / name).is_file() for name in (WHOLE, *PIECES, *PARTS) if name != "merges.txt")


def tokenizer_fingerprint(folder: Path) -> str:
    """SHA-256 over what decides about a text's tokens and a token's text, whatever way the files were written.

    Two tokenizers with one fingerprint give the same ids: vocabulary, merges, added tokens, normalizer, what is put
    before and behind a text. Padding, truncation, formatting and the order of keys do not count, nor does the class
    beside a tokenizer.json, which the engines load as it stands; without that file the class decides, and counts. The
    chat template counts where a job is a chat (premem_worker.passes.prompts.Chat). Raises CheckpointError.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder")
    return _fingerprint(folder, stamp(folder))


def files_digest(folder: Path) -> str:
    """SHA-256 over all that may decide how the tokenizer is loaded, byte by byte: the same files need no second look."""
    digest = hashlib.sha256()
    for name in (*sorted(TOKENIZER_FILES), CHAT_TEMPLATE, "config.json"):
        if (path := folder / name).is_file():
            digest.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def check_tokenizer_is_there(folder: Path) -> None:
    """Raises CheckpointError, saying where there is one."""
    if has_tokenizer(folder):
        return
    near = [folder.parent, *(path for path in sorted(folder.iterdir()) if path.is_dir())]
    elsewhere = next((path for path in near if has_tokenizer(path)), None)
    found = f"; there is one in {elsewhere}: copy its {', '.join(_own_files(elsewhere))} here" if elsewhere else ""
    raise CheckpointError(
        f"{folder} has no tokenizer (tokenizer.json or tokenizer.model): save it there with tokenizer.save_pretrained, "
        f"since every checkpoint needs its own{found}"
    )


def _own_files(folder: Path) -> list[str]:
    return [name for name in (*TOKENIZER_FILES, CHAT_TEMPLATE) if (folder / name).is_file()]


@functools.lru_cache(maxsize=64)  # a large vocabulary takes a second, and each task asks
def _fingerprint(folder: Path, _stamp: Stamp) -> str:
    check_tokenizer_is_there(folder)
    settings, special = read_object(folder / SETTINGS), read_object(folder / SPECIAL)
    digest = hashlib.sha256()

    def count(what: str, value: object) -> None:
        digest.update(f"{what}\0{canonical(_without_nulls(value))}\0".encode())

    count("special", {name: _content(settings.get(name, special.get(name))) for name in _DECIDING})
    if (folder / WHOLE).is_file():
        whole = _tokens_of(read_object(folder / WHOLE))
        count(WHOLE, whole)
        inside = {token.get("content") for token in whole.get("added_tokens", ())}
        vocabulary = (whole.get("model") or {}).get("vocab")
        if isinstance(vocabulary, dict):
            inside |= set(vocabulary)
        count("beside it", [[number, token] for number, token in _beside(folder) if token["content"] not in inside])
        return digest.hexdigest()
    count("class", _plain(settings.get("tokenizer_class")))
    count("settings", {name: settings.get(name) for name in _DECIDING_WITHOUT_THE_WHOLE})
    count("added", _beside(folder))
    count("named", sorted(named_tokens(folder)))
    for name in (*PIECES, *PARTS):
        if (path := folder / name).is_file():
            count(name, read_object(path) if path.suffix == ".json" else hashlib.sha256(path.read_bytes()).hexdigest())
    return digest.hexdigest()


def _beside(folder: Path) -> list[tuple[int, dict[str, Any]]]:
    return sorted(tokens_with_ids(folder).items())


def _plain(name: object) -> str | None:
    """LlamaTokenizer and LlamaTokenizerFast are one, and so are the names of the class that reads any tokenizer.json."""
    plain = str(name or "").removesuffix("Fast")
    return None if plain in _PLAIN_CLASSES else plain


def _tokens_of(tokenizer: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in tokenizer.items() if key not in ("version", "truncation", "padding")}
    if isinstance(model := kept.get("model"), dict) and isinstance(merges := model.get("merges"), list):
        # Older files write a merge as "a b", newer ones as ["a", "b"].
        kept["model"] = model | {"merges": [m.split(" ", 1) if isinstance(m, str) else m for m in merges]}
    return cast(dict[str, Any], _without_nulls(kept))


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list | tuple) else value


def _content(token: object) -> object:
    return token.get("content") if isinstance(token, dict) else token


def canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
