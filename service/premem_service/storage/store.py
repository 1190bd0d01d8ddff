"""Artifacts: immutable files under names that are used once, in a local folder or an object store.

A row of SQL that names an artifact is what makes it count; an artifact that no row names is garbage.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, from_url

from premem.errors import PrememError

ONE_REQUEST_BYTES = 16 * 2**20
"""Larger files are sent in parts: memory stays bounded, and the store cannot promise to refuse an existing name."""
TEMPORARY_PREFIX = "premem-"
ABANDONED_SECONDS = 24 * 3600.0

_FULL = re.compile(
    r"no space left on device|disk quota exceeded|file too large|storage ?full|insufficient ?storage", re.I
)
_FULL_NUMBERS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class StoreError(PrememError):
    """The store did not do what was asked of it.

    StoreError
    ├── StoreFull       no room is left (507)
    ├── ArtifactExists  this name is taken; nothing was changed
    └── ArtifactLost    somebody took an artifact away that the database still names
    """


class StoreFull(StoreError):
    """No room is left. What was being written is gone again."""


class ArtifactExists(StoreError):
    """This name is taken; nothing was changed."""


class ArtifactLost(StoreError):
    """There is no artifact of this name."""


@dataclass(frozen=True, slots=True)
class Artifact:
    name: str
    bytes: int
    modified_at: float
    """Seconds since 1970, by the store's clock."""


class Store:
    """Where artifacts live: `file://` or a folder's path, `s3://bucket/prefix`, and what else obstore knows.

    Credentials of an object store come from its own environment variables (AWS_…) or from `options`.
    `temporary` is the local folder for files under way, by default the system's. Safe to use from several threads.
    """

    def __init__(
        self, location: str | Path, *, options: Mapping[str, Any] | None = None, temporary: Path | None = None
    ) -> None:
        self.root = _local_root(location)
        """The folder of a local store; None for a remote one."""
        self.location = str(location) if self.root is None else self.root.as_uri()
        self._temporary = temporary
        self._sweep()
        with _translated(self.location):
            if self.root is None:
                self._store: obstore.store.ObjectStore = from_url(str(location), **(options or {}))
            else:
                self.root.mkdir(parents=True, exist_ok=True)
                self._store = LocalStore(self.root, automatic_cleanup=True)

    def put(self, name: str, content: bytes | Path) -> int:
        """Store a new artifact, whole or not at all, and return its size in bytes.

        Raises ArtifactExists, StoreFull, StoreError.
        """
        try:
            return self._put(name, content)
        except ArtifactLost as error:
            raise StoreError(f"{name} cannot be stored: {self.location} is not there") from error

    def _put(self, name: str, content: bytes | Path) -> int:
        with _translated(name):
            size = len(content) if isinstance(content, bytes) else content.stat().st_size
            if size <= ONE_REQUEST_BYTES:
                whole = content if isinstance(content, bytes) else content.read_bytes()
                obstore.put(self._store, name, whole, mode="create")
            else:
                if self.exists(name):
                    raise ArtifactExists(f"the artifact {name} is there already")
                obstore.put(self._store, name, content, chunk_size=ONE_REQUEST_BYTES // 2, max_concurrency=2)
            if self.root is not None:
                _sync(self.root / name)
        return size

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A local file to write; it becomes the artifact when the block ends well, and is gone when it does not."""
        with self.temporary_file() as path:
            with _translated(name), path.open("w+b") as file:
                yield file
            self.put(name, path)

    def get(self, name: str) -> bytes:
        """Raises ArtifactLost, StoreError."""
        with _translated(name):
            return bytes(obstore.get(self._store, name).bytes())

    def get_range(self, name: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of an artifact. Raises ArtifactLost, StoreError."""
        with _translated(name):
            return bytes(obstore.get_range(self._store, name, start=start, end=stop))

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A seekable file for reading parts of an artifact; a remote one is read by ranges as they are asked for.

        Raises ArtifactLost, StoreError, on opening and in the block.
        """
        with _translated(name):
            if self.root is not None:
                with (self.root / name).open("rb") as file:
                    yield file
            else:
                yield cast(IO[bytes], _Ranges(self._store, name))

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """A path to read the artifact under, valid within the block: its own, or that of a copy if it is remote."""
        if self.root is not None:
            path = self.root / name
            if not path.is_file():
                raise ArtifactLost(f"the artifact {name} is gone from {self.location}")
            yield path
            return
        with self.temporary_file() as copy:
            with _translated(name), copy.open("wb") as file:
                for chunk in obstore.get(self._store, name).stream(min_chunk_size=2**20):
                    file.write(chunk)
            yield copy

    def exists(self, name: str) -> bool:
        try:
            self.size(name)
        except ArtifactLost:
            return False
        return True

    def size(self, name: str) -> int:
        """In bytes. Raises ArtifactLost, StoreError."""
        with _translated(name):
            return int(obstore.head(self._store, name)["size"])

    def delete(self, names: Iterable[str]) -> None:
        """Names that are gone already are no error."""
        for name in names:
            try:
                with _translated(name):
                    obstore.delete(self._store, name)
            except ArtifactLost:
                continue

    def list(self, prefix: str = "") -> Iterator[Artifact]:
        """The artifacts below a folder, in no particular order."""
        with _translated(prefix):
            for page in obstore.list(self._store, prefix or None):
                for meta in page:
                    yield Artifact(name=meta["path"], bytes=meta["size"], modified_at=meta["last_modified"].timestamp())

    def check(self) -> None:
        """Raises StoreError unless the store answers (for readiness probes)."""
        with _translated(self.location):
            if self.root is not None and not self.root.is_dir():
                raise StoreError(f"the folder {self.root} is gone")
            if self.root is not None and shutil.disk_usage(self.root).free == 0:
                raise StoreFull(f"no room is left in {self.root}")
            next(iter(obstore.list(self._store, "readiness", chunk_size=1)), None)

    @contextmanager
    def temporary_file(self) -> Iterator[Path]:
        """An empty local file for work under way, removed at the end of the block. Raises StoreFull."""
        with _translated("a temporary file"):
            if self._temporary is not None:
                self._temporary.mkdir(parents=True, exist_ok=True)
            descriptor, path = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=self._temporary)
            os.close(descriptor)
        try:
            yield Path(path)
        finally:
            Path(path).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what processes that were killed left in the temporary folder. Others may be at work there now."""
        if self._temporary is None or not self._temporary.is_dir():
            return
        for path in self._temporary.glob(f"{TEMPORARY_PREFIX}*"):
            with suppress(FileNotFoundError):  # another process sweeps too
                if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()


class _Ranges:
    """A remote artifact as a seekable file. obstore's own reader returns a type of bytes that pyarrow does not take."""

    def __init__(self, store: obstore.store.ObjectStore, name: str) -> None:
        self._file = obstore.open_reader(store, name, buffer_size=2**16)
        self.closed = False

    def read(self, size: int | None = -1, /) -> bytes:
        return bytes(self._file.readall() if size is None or size < 0 else self._file.read(size))

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False


def _local_root(location: str | Path) -> Path | None:
    if isinstance(location, Path):
        return location.absolute()
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(parts.path).absolute()
    return None if len(parts.scheme) > 1 else Path(location).absolute()  # C:\… has a scheme of one letter


def _sync(path: Path) -> None:
    """Onto the disk, file and folder: the SQL row that names it must not outlive a power cut without it."""
    for target in (path, path.parent):
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """What obstore and the operating system raise, as StoreError with its cause."""
    try:
        yield
    except FileNotFoundError as error:
        raise ArtifactLost(f"the artifact {name} is gone from the store") from error
    except AlreadyExistsError as error:
        raise ArtifactExists(f"the artifact {name} is there already") from error
    except (BaseError, OSError) as error:
        if is_full(error):
            raise StoreFull(f"no room is left to write {name}: free some space and try again") from error
        raise StoreError(f"the store failed on {name}: {_first_line(error)}") from error


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk or a quota is full."""
    if isinstance(error, OSError) and error.errno in _FULL_NUMBERS:
        return True
    return isinstance(error, BaseError | OSError) and _FULL.search(str(error)) is not None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:500]
