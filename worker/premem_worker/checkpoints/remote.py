"""Checkpoints out of an object store, fetched once into the cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from premem.errors import CheckpointError, EngineError
from premem_worker.checkpoints.cache import Cache
from premem_worker.checkpoints.folder import MODEL_FILES

CHUNK_BYTES = 16 * 2**20


def is_remote(path: str) -> bool:
    return urlsplit(path).scheme in ("s3", "gs", "az", "abfss")


def fetched(url: str, *, stores: Sequence[str], cache: Cache) -> Path:
    """The local folder of a checkpoint in a store. Credentials come from the store's own variables (AWS_… and others).

    What the store lists decides: a file written anew is fetched anew. Raises CheckpointError where the URL lies outside of
    `stores` or holds no checkpoint, EngineError where the store does not answer or nothing has room.
    """
    url = url.rstrip("/")
    if not any(url == store or url.startswith(f"{store}/") for store in (one.rstrip("/") for one in stores)):
        under = ", ".join(stores) or "none was named"
        raise CheckpointError(
            f"{url} lies outside of the stores that this worker takes checkpoints from ({under}): --checkpoint-store"
        )
    try:
        store = from_url(url)
        found = [
            meta
            for page in obstore.list(store)
            for meta in page
            if any(fnmatch(meta["path"], pattern) for pattern in MODEL_FILES)
        ]
    except BaseError as error:
        raise EngineError(f"{url} cannot be listed: {_first_line(error)}") from error
    if not found:
        raise CheckpointError(f"{url} holds no checkpoint: there is no config.json and no safetensors")
    files = sorted((meta["path"], meta["size"], str(meta["e_tag"] or meta["last_modified"])) for meta in found)

    def fetch(folder: Path) -> None:
        for name, size, _ in files:
            try:
                with (folder / name).open("wb") as out:
                    for chunk in obstore.get(store, name).stream(min_chunk_size=CHUNK_BYTES):
                        out.write(chunk)
            except BaseError as error:
                raise EngineError(f"{url}/{name} cannot be fetched: {_first_line(error)}") from error
            got = (folder / name).stat().st_size
            if got != size:
                raise EngineError(f"{url}/{name} changed while it was fetched: {got:,} of {size:,} bytes")

    return cache.get(json.dumps([url, files]), fetch, bytes_needed=sum(size for _, size, _ in files))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
