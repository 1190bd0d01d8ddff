"""Checkpoints that were made or fetched for this machine, in one folder that its workers share and that stays small."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

from premem.errors import EngineError

HELD = 6
"""Folders that a worker keeps from being evicted: those of the checkpoint in memory and of the next. An adapter's are three:
what was fetched of it and of its base, and both merged."""
_UNFINISHED = ".unfinished-"


class Cache:
    """Folders by key, each made once, whole or not at all.

    Beside each lies a lock file. Whoever uses a folder holds it shared, whoever makes or evicts it alone; its time is that of
    the last use. Beyond `limit` bytes the folders that nobody uses go, the longest unused first. Workers of one machine may
    share the folder; of one of them, its own thread alone calls `get`.
    """

    def __init__(self, folder: Path, *, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._held: OrderedDict[str, IO[bytes]] = OrderedDict()

    def get(self, key: str, make: Callable[[Path], None], *, bytes_needed: int) -> Path:
        """The folder of `key`; where there is none, `make` fills a new one.

        Raises EngineError where it does not fit under the limit or on the disk, and whatever `make` raises.
        """
        folder = self._folder / _name(key)
        name = folder.name
        lock = self._held.pop(name, None) or self._lock_file(name)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            while not folder.is_dir():
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not folder.is_dir():  # nobody was faster
                    self._make(folder, make, bytes_needed=bytes_needed)
                # Not in one step: who evicts may come between.
                fcntl.flock(lock, fcntl.LOCK_SH)
        except BaseException:
            lock.close()
            raise
        os.utime(lock.name)
        self._held[name] = lock
        while len(self._held) > HELD:
            self._held.popitem(last=False)[1].close()
        return folder

    def find(self, key: str) -> Path | None:
        """The folder of `key`, held as by `get`; None where there is none."""
        if not (self._folder / _name(key)).is_dir():
            return None
        try:
            return self.get(key, _vanished, bytes_needed=0)
        except FileNotFoundError:
            return None

    def close(self) -> None:
        """Let others evict what this worker used."""
        while self._held:
            self._held.popitem()[1].close()

    def _lock_file(self, name: str) -> IO[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True)
        return (self._folder / f"{name}.lock").open("ab")

    def _make(self, folder: Path, make: Callable[[Path], None], *, bytes_needed: int) -> None:
        if bytes_needed > self._limit:
            raise EngineError(
                f"a checkpoint of {bytes_needed:,} bytes does not fit into the cache of {self._limit:,} bytes in "
                f"{self._folder}: allow more with --cache-bytes"
            )
        self._clear(making=folder.name)
        self._make_room(bytes_needed)
        unfinished = folder.with_name(f"{folder.name}{_UNFINISHED}{uuid4().hex}")
        unfinished.mkdir()
        try:
            make(unfinished)
            unfinished.rename(folder)
        except Exception as error:
            if is_full(error):
                raise self._no_room(bytes_needed) from error
            raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _clear(self, *, making: str) -> None:
        """Away with what was never finished and that nobody makes any more: whoever made it died of it."""
        for left in self._folder.glob(f"*{_UNFINISHED}*"):
            name = left.name.partition(_UNFINISHED)[0]
            if name == making:  # by this thread, which has its lock
                shutil.rmtree(left, ignore_errors=True)
                continue
            with self._alone(name) as mine:
                if mine:
                    shutil.rmtree(left, ignore_errors=True)

    def _make_room(self, needed: int) -> None:
        """Raises EngineError where even so the disk has too little."""
        sizes = {path: _size(path) for path in self._folder.iterdir() if path.is_dir() and "." not in path.name}
        total = sum(sizes.values())
        for folder in sorted(sizes, key=self._used_at):
            if total + needed <= self._limit and needed <= self._free():
                return
            if self._evict(folder):
                total -= sizes[folder]
        if needed > self._free():
            raise self._no_room(needed)

    def _free(self) -> int:
        """Bytes on the disk."""
        return shutil.disk_usage(self._folder).free

    def _no_room(self, needed: int) -> EngineError:
        return EngineError(
            f"no room is left for a checkpoint of {needed:,} bytes in {self._folder}: {self._free():,} bytes are free; "
            "free some, or name another folder with --cache"
        )

    def _used_at(self, folder: Path) -> float:
        lock = folder.with_name(f"{folder.name}.lock")
        return lock.stat().st_mtime if lock.exists() else 0.0

    def _evict(self, folder: Path) -> bool:
        """False: somebody uses it."""
        if folder.name in self._held:
            return False
        with self._alone(folder.name) as mine:
            if mine:
                shutil.rmtree(folder, ignore_errors=True)
            return mine

    @contextmanager
    def _alone(self, name: str) -> Iterator[bool]:
        """Whether nobody else has its lock, which is held meanwhile."""
        with self._lock_file(name) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _vanished(folder: Path) -> None:
    raise FileNotFoundError("evicted this moment")


def is_full(error: BaseException) -> bool:
    """Of the disk or a quota. safetensors says it in words only."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    words = str(error).lower()
    return type(error).__name__ == "SafetensorError" and ("no space left" in words or "quota exceeded" in words)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # evicted this moment
            total += path.stat().st_size
    return total
