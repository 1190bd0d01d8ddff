from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from premem_service.storage.store import (
    ABANDONED_SECONDS,
    ONE_REQUEST_BYTES,
    ArtifactExists,
    ArtifactLost,
    Store,
    StoreError,
)
from tests.s3 import KEYS, s3_server


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


def s3_store(s3_url: str, location: str) -> Store:
    return Store(location, options={**KEYS, "endpoint": s3_url, "client_options": {"allow_http": True}})


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(tmp_path / "artifacts", temporary=tmp_path / "temporary")
    return s3_store(request.getfixturevalue("s3_url"), f"s3://premem/{tmp_path.name}")


def test_what_is_put_can_be_got(store: Store):
    stored = store.put("results/a.parquet", b"content")

    assert stored == 7
    assert store.get("results/a.parquet") == b"content"
    assert store.get_range("results/a.parquet", 1, 3) == b"on"
    assert store.size("results/a.parquet") == 7


def test_a_name_is_used_once(store: Store):
    store.put("a", b"first")

    with pytest.raises(ArtifactExists):
        store.put("a", b"second")
    assert store.get("a") == b"first"


def test_a_large_file_is_stored_from_its_path(store: Store, tmp_path: Path):
    content = os.urandom(2**20) * (ONE_REQUEST_BYTES // 2**20 + 1)
    (tmp_path / "large").write_bytes(content)

    store.put("large", tmp_path / "large")

    assert store.get("large") == content
    with pytest.raises(ArtifactExists):
        store.put("large", tmp_path / "large")


def test_parts_are_read_without_the_whole(store: Store):
    store.put("a", bytes(range(256)) * 1000)

    with store.open("a") as file:
        file.seek(-2, os.SEEK_END)
        last = file.read()
        file.seek(257)
        middle = file.read(3)

    assert last == bytes([254, 255])
    assert middle == bytes([1, 2, 3])


def test_an_artifact_has_a_path_within_the_block(store: Store):
    store.put("folder/a", b"content")

    with store.local("folder/a") as path:
        content = path.read_bytes()

    assert content == b"content"
    assert path.exists() == (store.root is not None)  # a copy is gone, the artifact itself stays


def test_what_is_written_becomes_an_artifact_when_the_block_ends_well(store: Store):
    with store.writing("a") as file:
        file.write(b"one")
        file.write(b"two")

    assert store.get("a") == b"onetwo"


def test_what_is_written_is_gone_when_the_block_fails(tmp_path: Path):
    store = Store(tmp_path / "artifacts", temporary=tmp_path / "temporary")

    def fail() -> None:
        with store.writing("a") as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert list(store.list()) == []
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_missing_artifact_is_lost_and_its_deletion_no_error(store: Store):
    for look in (store.get, store.size, lambda name: store.get_range(name, 0, 1)):
        with pytest.raises(ArtifactLost, match="missing is gone"):
            look("missing")
    with pytest.raises(ArtifactLost), store.open("missing") as file:
        file.read(1)
    with pytest.raises(ArtifactLost), store.local("missing"):
        pass

    store.delete(["missing"])

    assert not store.exists("missing")


def test_a_folder_is_listed_with_sizes(store: Store):
    for name in ("a/1", "a/b/2", "c/3"):
        store.put(name, b"four")

    listed = {artifact.name: artifact.bytes for artifact in store.list("a")}

    assert listed == {"a/1": 4, "a/b/2": 4}
    assert len(list(store.list())) == 3


def test_a_deleted_artifact_is_gone(store: Store):
    store.put("a/1", b"1")
    store.put("a/2", b"2")

    store.delete(["a/1", "a/2"])

    assert list(store.list()) == []


def test_the_store_says_whether_it_answers(store: Store, s3_url: str):
    store.check()

    with pytest.raises(StoreError, match="no-such-bucket"):
        s3_store(s3_url, "s3://no-such-bucket").check()


def test_a_store_that_is_not_there_is_named(s3_url: str):
    with pytest.raises(StoreError, match="s3://no-such-bucket is not there"):
        s3_store(s3_url, "s3://no-such-bucket").put("a", b"")
    with pytest.raises(StoreError, match="gopher"):
        Store("gopher://somewhere")


def test_an_s3_store_is_set_by_the_environment_alone(s3_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")

    Store("s3://premem/environment").put("a", b"content")

    assert s3_store(s3_url, "s3://premem/environment").get("a") == b"content"


@pytest.mark.parametrize("location", ["artifacts", "file://{folder}/artifacts"])
def test_a_folder_is_a_store_by_path_and_by_url(location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    Store(location.format(folder=tmp_path)).put("a", b"content")

    assert (tmp_path / "artifacts/a").read_bytes() == b"content"


def test_temporary_files_of_killed_processes_are_swept(tmp_path: Path):
    abandoned, young, foreign = (tmp_path / name for name in ("premem-abandoned", "premem-young", "other"))
    for path in (abandoned, young, foreign):
        path.touch()
    for path in (abandoned, foreign):
        long_ago = path.stat().st_mtime - ABANDONED_SECONDS - 60
        os.utime(path, (long_ago, long_ago))

    Store(tmp_path / "artifacts", temporary=tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["other", "premem-young"]


FULL = """
import pathlib, resource, sys
from premem_service.storage.store import Store, StoreFull

store = Store(pathlib.Path(sys.argv[1]) / "artifacts", temporary=pathlib.Path(sys.argv[1]) / "temporary")
store.put("small", b"fits")
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for attempt in ("bytes", "file"):
    try:
        if attempt == "bytes":
            store.put("large", b"x" * 200_000)
        else:
            with store.writing("large") as file:
                file.write(b"x" * 200_000)
    except StoreFull as error:
        print(error)
files = [path.name for path in pathlib.Path(sys.argv[1]).rglob("*") if path.is_file()]
print(files)
"""


def run_full(folder: Path, kind: str, *prefix: str) -> list[str]:
    repository = Path(__file__).parents[3]
    command = [*prefix, sys.executable, "-c", FULL, str(folder), kind]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


def test_a_file_size_limit_is_a_full_store_and_leaves_nothing_behind(tmp_path: Path):
    lines = run_full(tmp_path, "limit")

    assert lines[0].startswith("no room is left to write large: free some space")
    assert lines[1].startswith("no room is left")
    assert lines[2] == "['small']"


def test_a_full_disk_is_a_full_store_and_leaves_nothing_behind(tmp_path: Path):
    mount = f'mount -t tmpfs -o size=64k tmpfs "{tmp_path}" && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", mount, "sh")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")

    lines = run_full(tmp_path, "disk", *prefix)

    assert lines[0].startswith("no room is left to write large: free some space")
    assert lines[1].startswith("no room is left")
    assert lines[2] == "['small']"
