"""A checkpoint's folder, read and judged before an engine touches it: no torch here, and none of its code is run."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from premem.errors import CheckpointError, InputError
from premem.roots import lying_under
from premem_worker.checkpoints.headers import SAVED_IN, Dtype, Tensor, read_headers, read_json, weight_files

_IGNORED_CONFIG = frozenset(
    # Where the folder came from, how it was saved, and tokens, which the engines are told for each checkpoint anew.
    ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "initializer_range")
) | frozenset(("bos_token_id", "eos_token_id", "pad_token_id", "unsloth_version", "unsloth_fixed"))
_HUB_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


@dataclass(frozen=True, slots=True)
class Signature:
    """What two checkpoints must share for one to be swapped for the other inside a running engine."""

    architecture: str
    tensors: tuple[Tensor, ...]
    """Sorted by name."""
    tied: bool
    """The output layer is the embedding."""
    quantization: str | None
    """The quantization config as canonical JSON."""
    dtype: Dtype | None
    """What most of the numbers were saved in; None: in nothing that an engine computes in."""
    config: str
    """The rest of the config as canonical JSON, without what says nothing about the model."""
    tokenizer: str
    """Fingerprint."""


def model_family(signature: Signature) -> str:
    """Architecture and number of parameters, such as "LlamaForCausalLM 8.03B": what a calibration is kept for.

    An output layer that is the embedding is counted once, however often it was saved.
    """
    parameters = sum(
        math.prod(tensor.shape)
        for tensor in signature.tensors
        if not (signature.tied and tensor.name == "lm_head.weight")
    )
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if parameters >= size:
            return f"{signature.architecture} {parameters / size:.3g}{unit}"
    return f"{signature.architecture} {parameters}"


def resolve(path_or_id: str, *, roots: Sequence[Path], hub: Callable[[str, str | None], Path] | None) -> Path:
    """The folder of a checkpoint: a path under one of `roots`, or `org/name` or `org/name@revision` of the hub.

    A relative path is looked for under each root. Links and `..` are followed before the roots are compared, so that
    neither leads out of them. `hub` fetches a repository at a revision; None: that is not allowed. Raises CheckpointError with the reason for anything else, and whatever `hub` does.
    """
    allowed = [root.resolve() for root in roots]
    try:
        inside = lying_under(Path(path_or_id), allowed)
        for path in inside:
            if path.is_dir():
                return path
            if path.is_file():
                raise CheckpointError(f"{path_or_id} is a file: name the checkpoint's folder")
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, links in a circle, a NUL
        raise CheckpointError(f"{path_or_id[:200]!r} is no path of a checkpoint: {str(error)[:100]}") from error
    named = _HUB_ID.fullmatch(path_or_id)
    if named is not None and hub is not None:
        return hub(named["repo"], named["revision"])
    raise CheckpointError(_refusal(path_or_id, allowed, inside=bool(inside), like_hub=named is not None))


def inspect(folder: Path) -> Signature:
    """The signature of a checkpoint, out of its config and the headers of its safetensors.

    Raises CheckpointError where the folder cannot be loaded, or must not be.
    """
    config = read_config(folder)
    headers = read_headers(folder)
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise CheckpointError(f"{folder / 'config.json'} names no architecture: save the model with save_pretrained")
    text_config = config.get("text_config")
    nested = text_config if isinstance(text_config, dict) else {}
    quantization = config.get("quantization_config")
    return Signature(
        architecture=str(architectures[0]),
        tensors=tuple(sorted((t for tensors in headers.values() for t in tensors), key=lambda tensor: tensor.name)),
        tied=bool(config.get("tie_word_embeddings", nested.get("tie_word_embeddings", False))),
        quantization=None if quantization is None else _canonical(quantization),
        dtype=_saved_in(headers, config),
        config=_canonical({key: value for key, value in config.items() if key not in _IGNORED_CONFIG}),
        tokenizer=tokenizer_fingerprint(folder),
    )


def named_dtype(signature: Signature, requested: str | None) -> Dtype:
    """The dtype to compute in: the requested one, or the one that the checkpoint was saved in. Never "auto".

    An engine's own "auto" turns float32 into bfloat16 and shifts log-probabilities by up to 0.06.
    """
    if requested is None:
        if signature.dtype is None:
            raise CheckpointError(
                f"the checkpoint's weights are in none of {', '.join(get_args(Dtype))}: name the dtype to compute in"
            )
        return signature.dtype
    if requested not in get_args(Dtype):
        raise InputError(f"unknown dtype {requested!r}: it must be one of {', '.join(get_args(Dtype))}")
    return cast(Dtype, requested)


def stamp(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Changes when a file of the checkpoint is replaced or rewritten: name, size, time and inode of each."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json", ".jinja", ".model"))
    return tuple((path.name, status.st_size, status.st_mtime_ns, status.st_ino) for path, status in _stats(files))


def overwritten(folder: Path, before: tuple[tuple[str, int, int, int], ...]) -> str | None:
    """A file of the checkpoint that is another one than it was at `before`; None: none is. One that is gone is none."""
    now = {name: rest for name, *rest in stamp(folder)} if folder.is_dir() else {}
    return next((name for name, *rest in before if now.get(name, rest) != rest), None)


def read_ahead(folder: Path) -> None:
    """Ask the system to have the weights in memory soon; it does so beside whatever runs, as far as there is room."""
    for path in weight_files(folder):
        with path.open("rb") as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json, after making sure that the folder is a model that needs no code of its own."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder")
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(f"{folder} holds a LoRA adapter, which is no model by itself")
    config = read_json(folder / "config.json", "it is no folder that save_pretrained made")
    for name, settings in (("config.json", config), ("tokenizer_config.json", _settings(folder))):
        if "auto_map" in settings:
            raise CheckpointError(
                f"{folder / name} names code of its own (auto_map): premem runs no code out of checkpoints; "
                "remove the entry if transformers knows this architecture by itself"
            )
    return config


def context_length(folder: Path) -> int | None:
    """The most tokens that the model takes by its config and its tokenizer; None where neither says."""
    config = read_config(folder)
    text_config = config.get("text_config")
    nested = text_config if isinstance(text_config, dict) else {}
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length", "n_ctx")
    limits = [given.get(name) for given in (config, nested) for name in names]
    limits.append(_settings(folder).get("model_max_length"))
    # A tokenizer without a limit says 1e30.
    return min((int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < 1e9), default=None)


def end_tokens(folder: Path, *, tokenizer_eos: int | None = None) -> frozenset[int]:
    """The ids that end a text, from generation_config.json, config.json and the tokenizer together."""
    generation = folder / "generation_config.json"
    ends: set[int] = set() if tokenizer_eos is None else {tokenizer_eos}
    for config in (read_config(folder), read_json(generation) if generation.is_file() else {}):
        named = config.get("eos_token_id")
        ends.update(named if isinstance(named, list) else [] if named is None else [named])
    return frozenset(ends)


def chat_template(folder: Path) -> str | None:
    """Where transformers looks for it: a file of its own, else tokenizer_config.json; of several the default."""
    if (own := folder / "chat_template.jinja").is_file():
        return own.read_text(encoding="utf-8")
    found = _settings(folder).get("chat_template")
    if isinstance(found, list):
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
        found = named.get("default")
    return found if isinstance(found, str) and found else None


def tokenizer_fingerprint(folder: Path) -> str:
    """SHA-256 over what decides about a text's tokens and a token's text, whatever way the files were written.

    Two tokenizers with one fingerprint give the same ids: vocabulary, merges, added tokens, normalizer, what is put
    before and behind a text. Padding, truncation, formatting and the order of keys do not count.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder")
    return _fingerprint(folder, stamp(folder))


def _refusal(path_or_id: str, roots: Sequence[Path], *, inside: bool, like_hub: bool) -> str:
    under = ", ".join(map(str, roots))
    if not roots:
        reason = f"{path_or_id}: this worker was given no folder to take checkpoints from (--checkpoint-root)"
    elif inside:
        reason = f"{path_or_id}: there is no such folder under {under}"
    else:
        reason = f"{path_or_id} lies outside of the folders that this worker takes checkpoints from ({under})"
    return f"{reason}; if it is meant as a hub id, start the worker with --hub" if like_hub else reason


@functools.lru_cache(maxsize=64)  # a large vocabulary takes a second, and each task asks
def _fingerprint(folder: Path, _stamp: tuple[tuple[str, int, int, int], ...]) -> str:
    settings = _settings(folder)
    special = {name: _content(settings.get(name)) for name in ("bos_token", "eos_token", "unk_token")}
    added = {name: settings.get(name) for name in ("add_bos_token", "add_eos_token", "add_prefix_space")}
    digest = hashlib.sha256(_canonical(special | added).encode())
    if (whole := folder / "tokenizer.json").is_file():
        digest.update(_canonical(_tokens_of(read_json(whole))).encode())
        return digest.hexdigest()
    files = [folder / name for name in ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")]
    files += [folder / "vocab.json", folder / "merges.txt"]
    present = [path for path in files if path.is_file()]
    if not present or {path.name for path in present} == {"merges.txt"}:
        raise CheckpointError(
            f"{folder} has no tokenizer (tokenizer.json or tokenizer.model): save it there with "
            "tokenizer.save_pretrained, since every checkpoint needs its own"
        )
    for path in [*present, *(path for path in [folder / "added_tokens.json"] if path.is_file())]:
        content = _canonical(read_json(path)).encode() if path.suffix == ".json" else path.read_bytes()
        digest.update(hashlib.sha256(path.name.encode() + b"\0" + content).digest())
    return digest.hexdigest()


def _tokens_of(tokenizer: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in tokenizer.items() if key not in ("version", "truncation", "padding")}
    if isinstance(model := kept.get("model"), dict) and isinstance(merges := model.get("merges"), list):
        # Older files write a merge as "a b", newer ones as ["a", "b"].
        kept["model"] = model | {"merges": [m.split(" ", 1) if isinstance(m, str) else m for m in merges]}
    return cast(dict[str, Any], _without_nulls(kept))


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _content(token: object) -> object:
    return token.get("content") if isinstance(token, dict) else token


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    return read_json(path) if path.is_file() else {}


def _saved_in(headers: Mapping[Path, Iterable[Tensor]], config: Mapping[str, Any]) -> Dtype | None:
    numbers: Counter[str] = Counter()
    for tensors in headers.values():
        for tensor in tensors:
            numbers[tensor.dtype] += math.prod(tensor.shape)
    most = SAVED_IN.get(numbers.most_common(1)[0][0])
    if most is not None:
        return most
    named = str(config.get("dtype", config.get("torch_dtype"))).removeprefix("torch.")
    return cast(Dtype, named) if named in get_args(Dtype) else None


def _stats(files: Iterable[Path]) -> Iterable[tuple[Path, Any]]:
    for path in files:
        try:
            yield path, path.stat()
        except FileNotFoundError:  # a link to nothing, or gone since
            continue


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
