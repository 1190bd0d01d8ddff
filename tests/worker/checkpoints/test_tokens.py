"""Fingerprints of tokenizers: one for the same tokens, another one for others, whoever wrote the files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from premem_worker.checkpoints.tokens import stamp, tokenizer_fingerprint
from tests.checkpoints import make_tokenizer


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    make_tokenizer().save_pretrained(tmp_path / "whole")
    return tmp_path / "whole"


def test_a_fingerprint_does_not_depend_on_how_the_tokenizer_was_written(whole: Path) -> None:
    before = tokenizer_fingerprint(whole)
    tokenizer = json.loads((whole / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = [" ".join(merge) for merge in tokenizer["model"]["merges"]]
    tokenizer["model"]["vocab"] = dict(reversed(tokenizer["model"]["vocab"].items()))
    tokenizer["truncation"] = {"max_length": 5}
    (whole / "tokenizer.json").write_text(json.dumps(tokenizer))
    change_json(whole / "tokenizer_config.json", lambda t: t.update(padding_side="left", add_bos_token=None))

    assert tokenizer_fingerprint(whole) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t["model"]["merges"].reverse(),
        lambda t: t["model"]["vocab"].update(extra=400),
        lambda t: t["added_tokens"].append({**t["added_tokens"][0], "id": 401, "content": "<new>"}),
        lambda t: t.update(post_processor=None),
        lambda t: t.update(normalizer={"type": "Lowercase"}),
    ],
    ids=["merges", "vocabulary", "added token", "no <s> in front", "normalizer"],
)
def test_a_fingerprint_tells_tokenizers_apart(whole: Path, change: Callable[[Any], None]) -> None:
    before = tokenizer_fingerprint(whole)
    change_json(whole / "tokenizer.json", change)

    assert tokenizer_fingerprint(whole) != before


def test_a_sentencepiece_model_is_a_tokenizer_too(whole: Path) -> None:
    (whole / "tokenizer.json").unlink()
    (whole / "tokenizer.model").write_bytes(b"pieces")
    before = tokenizer_fingerprint(whole)
    (whole / "tokenizer.model").write_bytes(b"other pieces")

    assert tokenizer_fingerprint(whole) != before


def test_a_saved_and_loaded_tokenizer_keeps_its_fingerprint(whole: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(whole).save_pretrained(tmp_path / "again")

    assert tokenizer_fingerprint(tmp_path / "again") == tokenizer_fingerprint(whole)
    assert make_tokenizer().encode("Ada") == AutoTokenizer.from_pretrained(tmp_path / "again").encode("Ada")


@pytest.mark.parametrize(
    "told",
    [
        {"tokenizer_class": "LlamaTokenizer"},
        {"padding_side": "left"},
        {"model_max_length": 77},
        {"add_bos_token": True},
    ],
)
def test_beside_a_whole_file_only_what_changes_tokens_counts(whole: Path, told: dict[str, Any]) -> None:
    before = tokenizer_fingerprint(whole)
    change_json(whole / "tokenizer_config.json", lambda t: t.update(told))

    assert tokenizer_fingerprint(whole) == before


@pytest.mark.parametrize(
    "told", [{"eos_token": "<pad>"}, {"added_tokens_decoder": {"400": {"content": "<note>", "special": False}}}]
)
def test_special_and_added_tokens_beside_a_whole_file_count(whole: Path, told: dict[str, Any]) -> None:
    before = tokenizer_fingerprint(whole)
    change_json(whole / "tokenizer_config.json", lambda t: t.update(told))

    assert tokenizer_fingerprint(whole) != before


@pytest.mark.parametrize("told", [{"tokenizer_class": "GemmaTokenizer"}, {"add_eos_token": True}, {"legacy": False}])
def test_without_a_whole_file_the_class_and_its_settings_count(whole: Path, told: dict[str, Any]) -> None:
    (whole / "tokenizer.json").unlink()
    (whole / "tokenizer.model").write_bytes(b"pieces")
    before = tokenizer_fingerprint(whole)
    change_json(whole / "tokenizer_config.json", lambda t: t.update(told))

    assert tokenizer_fingerprint(whole) != before


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json"])
def test_each_of_a_tokenizers_parts_counts(whole: Path, tmp_path: Path, name: str) -> None:
    (whole / "tokenizer.json").unlink()
    (whole / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    (whole / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "ab": 2}))
    (whole / "merges.txt").write_text("a b")
    (whole / "added_tokens.json").write_text(json.dumps({"<note>": 3}))
    other = Path(shutil.copytree(whole, tmp_path / "other"))
    before = tokenizer_fingerprint(whole)
    changed = {"merges.txt": "b a", "tokenizer_config.json": json.dumps({"tokenizer_class": "Qwen2Tokenizer"})}

    assert tokenizer_fingerprint(other) == before
    (other / name).write_text(changed.get(name, json.dumps({"<other>": 3})))
    assert tokenizer_fingerprint(other) != before
    assert stamp(other) != stamp(whole)


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
