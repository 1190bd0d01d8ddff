"""Checkpoints out of the Hugging Face hub, fetched once into the cache, or as they lie in the hub's own."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import cast
from uuid import uuid4

from premem.errors import CheckpointError, EngineError
from premem_worker.checkpoints.cache import Cache, is_full
from premem_worker.checkpoints.folder import MODEL_FILES

ANSWER_SECONDS = 30.0
"""Within which the hub must say what a revision holds."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetched(repo: str, revision: str | None, *, cache: Cache, refs: Path) -> Path:
    """The local folder of a repository's commit, by default the newest. `refs`: where it is kept which one that was last.

    What lies whole in the hub's own cache (HF_HOME) is used there. Where the hub does not answer, or must not be asked
    (HF_HUB_OFFLINE), what was fetched before serves. Raises CheckpointError where the hub has no such checkpoint for this
    worker, EngineError where it does not answer and nothing was fetched, or nothing has room.
    """
    at = f"{repo}@{revision}" if revision else repo
    ref = refs / f"{hashlib.sha256(at.encode()).hexdigest()[:32]}.ref"
    try:
        commit, sizes = _asked(repo, revision, at=at)
    except EngineError as error:
        return _as_before(repo, revision, ref, cache=cache, error=error)
    if not sizes:
        raise CheckpointError(f"the hub's {at} holds no checkpoint: there is no config.json and no safetensors")
    if (own := _in_own_cache(repo, commit, sizes)) is not None:
        return own

    def fetch(folder: Path) -> None:
        _download(repo, commit, sizes, folder, at=at)

    folder = cache.get(_key(repo, commit), fetch, bytes_needed=sum(sizes.values()))
    unfinished = ref.with_name(f"{ref.name}.{uuid4().hex}")
    unfinished.write_text(commit)
    unfinished.rename(ref)
    return folder


def _asked(repo: str, revision: str | None, *, at: str) -> tuple[str, dict[str, int]]:
    """The commit, and the bytes of each of its files that is needed. Raises CheckpointError, EngineError."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=ANSWER_SECONDS)
    except (GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise CheckpointError(f"the hub has no checkpoint {at} for this worker: {_first_line(error)}") from error
    except (OSError, _transport_error()) as error:
        raise EngineError(f"{at} could not be asked for: the hub does not answer ({_first_line(error)})") from error
    files = {one.rfilename: one.size or 0 for one in info.siblings or ()}
    return str(info.sha), {
        name: size for name, size in files.items() if any(fnmatch(name, pattern) for pattern in MODEL_FILES)
    }


def _as_before(repo: str, revision: str | None, ref: Path, *, cache: Cache, error: EngineError) -> Path:
    """What was fetched of it when the hub last answered. Raises `error` where nothing was."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError

    def kept() -> Path | None:
        commit = revision if revision and _COMMIT.fullmatch(revision) else ref.read_text() if ref.is_file() else None
        return None if commit is None else cache.find(_key(repo, commit))

    def own() -> Path | None:
        try:
            return Path(snapshot_download(repo, revision=revision, local_files_only=True))
        except (OSError, HFValidationError):
            return None

    # Whoever forbids to ask has laid ready what is meant. Else the hub is away for a moment, and a job's tasks go on.
    for way in (own, kept) if constants.HF_HUB_OFFLINE else (kept, own):
        if (folder := way()) is not None:
            return folder
    raise error


def _in_own_cache(repo: str, commit: str, names: Mapping[str, int]) -> Path | None:
    """The folder there, if it holds each of the files."""
    from huggingface_hub import try_to_load_from_cache

    folder = None
    for name in names:
        found = try_to_load_from_cache(repo, name, revision=commit)
        if not isinstance(found, str):
            return None
        folder = Path(found).parents[name.count("/")]
    return folder


def _download(repo: str, commit: str, sizes: Mapping[str, int], folder: Path, *, at: str) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(repo, revision=commit, allow_patterns=list(sizes), local_dir=folder)
    except (OSError, _transport_error()) as error:
        if is_full(error):
            raise  # the cache says what to do
        raise EngineError(f"{at} could not be downloaded from the hub: {_first_line(error)}") from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # what the hub's library notes of the files
    for name, size in sizes.items():
        got = (folder / name).stat().st_size if (folder / name).is_file() else -1
        if got < 0 or size not in (0, got):  # 0: a mirror may not tell
            raise EngineError(f"{name} of {at} was not downloaded whole: {max(0, got):,} of {size:,} bytes")


def _transport_error() -> type[Exception]:
    """Of whatever library the hub's asks with: the ancestor of all its errors."""
    from huggingface_hub.errors import HfHubHTTPError

    return cast(type[Exception], HfHubHTTPError.__mro__[1])


def _key(repo: str, commit: str) -> str:
    return json.dumps(["hub", repo, commit])


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
