"""Remote sources of rows: `hf://org/name?split=train` through `datasets`, `s3://bucket/key.jsonl` from an object store.

The client reads them, with its own credentials, and sends them on as they arrive: a service fetches nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from premem.errors import InputError
from premem.extras import brought_by

SCHEMES = ("hf", "s3")
HF_OPTIONS = ("split", "config", "revision")
BLOCK_BYTES = 2**20


def is_source(text: str) -> bool:
    return urlsplit(text).scheme in SCHEMES


@dataclass(frozen=True, slots=True)
class HubRows:
    """A data set for the library `datasets`: on the hub (`hf://org/name`), or in a folder (`hf:///path`)."""

    url: str
    path: str
    split: str | None
    config: str | None
    revision: str | None

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    @classmethod
    def of(cls, url: str) -> HubRows:
        """Raises InputError where the URL names no data set, or has an unknown option."""
        parts = urlsplit(url)
        path = unquote(parts.netloc + parts.path)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = sorted(set(options) - set(HF_OPTIONS))
        if unknown:
            raise InputError(f"{url}: {unknown[0]!r} is not understood; after ? come {', '.join(HF_OPTIONS)}")
        if not path.strip("/"):
            raise InputError(f"{url}: names no data set; it looks like hf://org/name?split=train, or hf:///folder")
        return cls(url, path, options.get("split"), options.get("config"), options.get("revision"))

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """One by one, without holding them all. Raises InputError where the library, split or rows are missing."""
        with brought_by("datasets"):
            from datasets import get_dataset_split_names, load_dataset
        known = {"revision": self.revision} if self.revision else {}
        try:
            splits = get_dataset_split_names(self.path, self.config, **known)
            split = self.split or (splits[0] if len(splits) == 1 else None)
            if split is None:
                raise InputError(f"{self.url}: has the splits {', '.join(splits)}: choose one with ?split={splits[0]}")
            if split.split("[")[0] not in splits:
                raise InputError(f"{self.url}: there is no split {split!r}, only {', '.join(splits)}")
            found = load_dataset(self.path, self.config, split=split, streaming=True, **known)
            seen = False
            for row in found:
                seen = True
                yield row
        except InputError:
            raise
        except Exception as error:  # a library of many loaders, each with errors of its own about this source
            raise InputError(f"{self.url}: {_first_line(error)}") from error
        if not seen:
            raise InputError(f"{self.url}: the split {split!r} has no rows")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in a bucket. Credentials come from the store's own variables (AWS_…)."""

    url: str
    bucket: str
    key: str

    @property
    def name(self) -> str:
        return self.key.rsplit("/", 1)[-1]

    @classmethod
    def of(cls, url: str) -> StoredFile:
        parts = urlsplit(url)
        bucket, key = f"{parts.scheme}://{parts.netloc}", unquote(parts.path).strip("/")
        if not parts.netloc or not key:
            raise InputError(f"{url}: names no file in a bucket; it looks like s3://bucket/folder/train.jsonl")
        return cls(url, bucket, key)

    def blocks(self) -> Iterator[bytes]:
        """The file in blocks. Raises InputError where there is none, or the store does not give it out."""
        with brought_by("s3"):
            import obstore
            from obstore.exceptions import BaseError
            from obstore.store import from_url

        try:
            for chunk in obstore.get(from_url(self.bucket), self.key).stream(min_chunk_size=BLOCK_BYTES):
                yield bytes(chunk)
        except FileNotFoundError:
            raise InputError(f"{self.url}: there is no such file in the bucket") from None
        except BaseError as error:
            raise InputError(f"{self.url}: cannot be read: {_first_line(error)}") from error


def source(url: str) -> HubRows | StoredFile:
    """Raises InputError where the URL does not say enough."""
    return HubRows.of(url) if urlsplit(url).scheme == "hf" else StoredFile.of(url)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
