"""Checkpoints that are fetched or merged: once, whole or not at all, and never more than there is room for."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from premem.errors import EngineError
from premem_worker.checkpoints import cache as caching
from premem_worker.checkpoints.cache import Cache

HUNDRED = 100


def file_of(size: int, made: list[Path] | None = None) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "weights").write_bytes(b"x" * size)
        if made is not None:
            made.append(folder)

    return make


def folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir())


def test_a_checkpoint_is_made_once(tmp_path: Path):
    made: list[Path] = []
    cache = Cache(tmp_path, limit=1000)

    first = cache.get("a", file_of(HUNDRED, made), bytes_needed=HUNDRED)
    again = Cache(tmp_path, limit=1000).get("a", file_of(HUNDRED, made), bytes_needed=HUNDRED)

    assert first == again
    assert len(made) == 1
    assert (first / "weights").stat().st_size == HUNDRED


def test_the_longest_unused_goes_when_room_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(caching, "HELD", 1)
    cache = Cache(tmp_path, limit=250)
    old = cache.get("old", file_of(HUNDRED), bytes_needed=HUNDRED)
    newer = cache.get("newer", file_of(HUNDRED), bytes_needed=HUNDRED)
    for age, folder in ((200, old), (100, newer)):
        os.utime(f"{folder}.lock", (time.time() - age,) * 2)

    third = cache.get("third", file_of(HUNDRED), bytes_needed=HUNDRED)

    assert folders(tmp_path) == sorted([newer, third])


def test_what_another_worker_uses_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(caching, "HELD", 1)
    using = Cache(tmp_path, limit=150)
    used = using.get("used", file_of(HUNDRED), bytes_needed=HUNDRED)

    other = Cache(tmp_path, limit=150).get("other", file_of(HUNDRED), bytes_needed=HUNDRED)
    using.close()
    third = Cache(tmp_path, limit=150).get("third", file_of(HUNDRED), bytes_needed=HUNDRED)

    assert used not in folders(tmp_path)
    assert third in folders(tmp_path)
    assert other.name != used.name


def test_what_was_left_half_made_is_never_taken_for_whole(tmp_path: Path):
    def dying(folder: Path) -> None:
        (folder / "weights").write_bytes(b"x")
        raise RuntimeError("killed")

    cache = Cache(tmp_path, limit=1000)
    with pytest.raises(RuntimeError):
        cache.get("a", dying, bytes_needed=HUNDRED)

    assert folders(tmp_path) == []
    assert (cache.get("a", file_of(HUNDRED), bytes_needed=HUNDRED) / "weights").stat().st_size == HUNDRED


def test_one_that_is_too_large_for_the_cache_is_refused_before_it_is_made(tmp_path: Path):
    with pytest.raises(EngineError, match="--cache-bytes"):
        Cache(tmp_path, limit=99).get("a", file_of(HUNDRED), bytes_needed=HUNDRED)


def test_a_full_disk_is_told(tmp_path: Path):
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(EngineError, match="no room is left"):
        Cache(tmp_path, limit=1000).get("a", full, bytes_needed=HUNDRED)


def test_what_safetensors_says_of_a_full_disk_is_told_too(tmp_path: Path):
    def full(folder: Path) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with pytest.raises(EngineError, match="no room is left"):
        Cache(tmp_path, limit=1000).get("a", full, bytes_needed=HUNDRED)


def test_a_disk_that_lacks_room_is_told_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[Path] = []
    monkeypatch.setattr(caching, "HELD", 0)
    monkeypatch.setattr(Cache, "_free", lambda cache: 150 - HUNDRED * len(folders(tmp_path)))
    cache = Cache(tmp_path, limit=1000)
    cache.get("a", file_of(HUNDRED), bytes_needed=HUNDRED)

    second = cache.get("b", file_of(HUNDRED, made), bytes_needed=HUNDRED)  # in the place of the first
    with pytest.raises(EngineError, match="150 bytes are free"):
        cache.get("c", file_of(HUNDRED, made), bytes_needed=200)

    assert len(made) == 1
    assert not second.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="kills a process")
def test_what_a_killed_worker_left_half_made_is_cleared_by_the_next_one(tmp_path: Path):
    script = (
        "import sys, time; from pathlib import Path; from premem_worker.checkpoints.cache import Cache\n"
        "def make(folder):\n"
        "    (folder / 'weights').write_bytes(b'x'); print('made', flush=True); time.sleep(60)\n"
        "Cache(Path(sys.argv[1]), limit=100).get('a', make, bytes_needed=1)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"made\n"

    Cache(tmp_path, limit=1000).get("b", file_of(1), bytes_needed=1)
    beside = len(folders(tmp_path))
    worker.kill()
    worker.communicate()
    Cache(tmp_path, limit=1000).get("c", file_of(1), bytes_needed=1)

    assert beside == 2  # as long as somebody makes it, nobody clears it
    assert not any("unfinished" in path.name for path in folders(tmp_path))


def test_two_processes_that_want_the_same_make_it_once(tmp_path: Path):
    script = (
        "import sys, time; from pathlib import Path; from premem_worker.checkpoints.cache import Cache\n"
        "def make(folder):\n"
        "    time.sleep(0.5); (folder / 'weights').write_bytes(b'x'); print('made', flush=True)\n"
        "Cache(Path(sys.argv[1]), limit=100).get('a', make, bytes_needed=1)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]

    said = [one.communicate(timeout=60)[0] for one in both]

    assert [one.returncode for one in both] == [0, 0]
    assert sorted(said) == ["", "made\n"]
