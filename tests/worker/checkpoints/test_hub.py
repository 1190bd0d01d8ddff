"""Checkpoints out of a hub that stands on this machine, through the cache."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants, snapshot_download

from premem.errors import CheckpointError, EngineError
from premem_worker.checkpoints import hub
from premem_worker.checkpoints.cache import Cache

FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights" * 1000,
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"pickled",
    "modeling.py": b"import os",
}
WANTED = {"config.json", "model.safetensors", "tokenizer.json"}


class Hub:
    """What the library asks of a hub: a revision's commit and files, and their bytes."""

    def __init__(self) -> None:
        self.files = dict(FILES)
        self.commit = "a" * 40
        self.status = 200
        self.fetched: list[str] = []
        self.breaks_off_at: str | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        path = asked.path.partition("?")[0]
        if self.status != 200:
            return self.send(asked, self.status, b"{}")
        if path.startswith("/api/models/org/name/tree/"):
            return self.send_json(
                asked,
                [
                    {"type": "file", "path": name, "oid": "0" * 40, "size": len(content)}
                    for name, content in self.files.items()
                ],
            )
        if path == "/api/models/org/name" or path.startswith("/api/models/org/name/revision/"):
            siblings = [{"rfilename": name, "size": len(content)} for name, content in self.files.items()]
            return self.send_json(asked, {"id": "org/name", "sha": self.commit, "siblings": siblings})
        name = path.rpartition("/")[2]
        if path == f"/org/name/resolve/{self.commit}/{name}" and name in self.files:
            return self.send_file(asked, name)
        return self.send(asked, 404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def send_file(self, asked: BaseHTTPRequestHandler, name: str) -> None:
        content = self.files[name]
        head = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": self.commit}
        if asked.command == "GET":
            self.fetched.append(name)
            if name == self.breaks_off_at:
                self.send(asked, 500, b"")
                return
        self.send(asked, 200, content, head)

    def send_json(self, asked: BaseHTTPRequestHandler, told: Any) -> None:
        self.send(asked, 200, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def send(
        self, asked: BaseHTTPRequestHandler, status: int, content: bytes, head: dict[str, str] | None = None
    ) -> None:
        asked.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(head or {})}.items():
            asked.send_header(name, value)
        asked.end_headers()
        if asked.command == "GET":
            asked.wfile.write(content)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    found = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", found.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", found.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "own"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield found
    found.server.shutdown()
    found.server.server_close()


def fetched(folder: Path, revision: str | None = None, *, limit: int = 10**9) -> Path:
    """By a worker of its own."""
    return hub.fetched("org/name", revision, cache=Cache(folder, limit=limit), refs=folder)


def test_the_needed_files_are_fetched_once_into_the_cache(there: Hub, tmp_path: Path):
    first, again = fetched(tmp_path / "cache"), fetched(tmp_path / "cache", "main")

    assert first == again
    assert first.parent == tmp_path / "cache"
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {name: FILES[name] for name in WANTED}
    assert sorted(there.fetched) == sorted(WANTED)
    assert not (tmp_path / "own").exists()


def test_another_commit_is_another_checkpoint(there: Hub, tmp_path: Path):
    before = fetched(tmp_path / "cache")
    there.commit, there.files["model.safetensors"] = "b" * 40, b"retrained"

    after = fetched(tmp_path / "cache")

    assert (before / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert (after / "model.safetensors").read_bytes() == b"retrained"


def test_the_limit_holds(there: Hub, tmp_path: Path):
    before = fetched(tmp_path / "cache", limit=10_000)
    there.commit = "b" * 40

    after = fetched(tmp_path / "cache", limit=10_000)

    assert (before.exists(), after.exists()) == (False, True)
    with pytest.raises(EngineError, match="does not fit into the cache"):
        fetched(tmp_path / "small", limit=100)


def test_what_was_not_fetched_whole_is_never_taken_for_whole(there: Hub, tmp_path: Path):
    there.breaks_off_at = "model.safetensors"
    with pytest.raises(EngineError, match="org/name could not be downloaded from the hub"):
        fetched(tmp_path / "cache")
    there.breaks_off_at = None

    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert (fetched(tmp_path / "cache") / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_what_lies_in_the_hubs_own_cache_is_used_there(there: Hub, tmp_path: Path):
    own = Path(snapshot_download("org/name"))
    there.fetched.clear()

    assert fetched(tmp_path / "cache") == own
    assert there.fetched == []


def test_what_lies_there_in_part_is_fetched(there: Hub, tmp_path: Path):
    snapshot_download("org/name", allow_patterns=["config.json"])

    assert {path.name for path in fetched(tmp_path / "cache").iterdir()} == WANTED


@pytest.mark.parametrize("revision", [None, "a" * 40])
def test_a_hub_that_is_away_takes_nothing_away_that_was_fetched(there: Hub, tmp_path: Path, revision: str | None):
    before = fetched(tmp_path / "cache", revision)
    there.status = 500

    assert fetched(tmp_path / "cache", revision) == before


def test_offline_what_was_laid_ready_is_used_and_the_hub_never_asked(
    there: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    own = Path(snapshot_download("org/name"))
    there.status = 500
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    assert fetched(tmp_path / "cache") == own


def test_a_hub_that_does_not_answer_is_not_the_checkpoints_fault(there: Hub, tmp_path: Path):
    there.server.shutdown()
    there.server.server_close()

    with pytest.raises(EngineError, match="org/name@main could not be asked for: the hub does not answer"):
        fetched(tmp_path / "cache", "main")


def test_what_the_hub_does_not_have_is_refused(there: Hub, tmp_path: Path):
    with pytest.raises(CheckpointError, match="the hub has no checkpoint org/other"):
        hub.fetched("org/other", None, cache=Cache(tmp_path, limit=10**9), refs=tmp_path)
    there.files = {"notes.txt": b""}
    with pytest.raises(CheckpointError, match="the hub's org/name holds no checkpoint"):
        fetched(tmp_path / "cache")
