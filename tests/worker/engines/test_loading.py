"""Tokenizers as they are loaded: what the files say, whatever class they name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from premem.errors import CheckpointError
from premem.tokenizer_files import read_tokenizer
from premem_worker.engines import loading
from premem_worker.engines.loading import load_tokenizer
from tests.checkpoints import make_tokenizer

TEXT = "Cleo buys 23 pears.\n\nÄh, für 4,50 € 🙂?"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_tokenizer().save_pretrained(tmp_path / "step-1")
    return tmp_path / "step-1"


def change(path: Path, changed: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    changed(content)
    path.write_text(json.dumps(content))


def name_class(folder: Path, name: str | None) -> Path:
    def rename(settings: dict[str, Any]) -> None:
        settings.pop("backend", None)
        settings.pop("tokenizer_class", None)
        settings.update({} if name is None else {"tokenizer_class": name})

    change(folder / "tokenizer_config.json", rename)
    return folder


def in_parts(folder: Path) -> Path:
    """As vocab.json and merges.txt, the way GPT-2's is kept."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    (folder / "tokenizer.json").unlink()
    return folder


@pytest.mark.parametrize(
    "name", ["LlamaTokenizer", "LlamaTokenizerFast", "GemmaTokenizer", "T5Tokenizer", "NobodysTokenizer", None]
)
def test_the_file_decides_and_not_the_name_of_the_class(folder: Path, name: str | None) -> None:
    tokenizer = load_tokenizer(name_class(folder, name))

    assert tokenizer.encode(TEXT) == make_tokenizer().encode(TEXT) == read_tokenizer(folder).encode(TEXT).ids
    assert tokenizer.decode(tokenizer.encode(TEXT, add_special_tokens=False)) == TEXT


def test_what_was_loaded_before_changes_nothing(folder: Path, tmp_path: Path) -> None:
    other = name_class(Path(shutil.copytree(folder, tmp_path / "step-2")), "LlamaTokenizer")
    change(other / "tokenizer.json", lambda tokenizer: tokenizer.update(post_processor=None))

    before, between, after = (load_tokenizer(one).encode("Ada 7") for one in (folder, other, folder))

    assert before == after == [1, *between]


def test_the_same_files_are_read_once(folder: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(folder, tmp_path / "step-2"))

    assert load_tokenizer(again) is load_tokenizer(folder)


def test_a_tokenizer_rewritten_in_place_is_read_again(folder: Path) -> None:
    before = load_tokenizer(folder).encode("Ada")
    change(folder / "tokenizer.json", lambda tokenizer: tokenizer.update(post_processor=None))

    assert before == [1, *load_tokenizer(folder).encode("Ada")]


def test_a_file_whose_parts_lose_spaces_is_refused(folder: Path) -> None:
    # What a class that is not the tokenizer's own leaves behind when it is saved.
    change(folder / "tokenizer.json", lambda tokenizer: tokenizer.update(pre_tokenizer={"type": "WhitespaceSplit"}))

    with pytest.raises(CheckpointError, match=r"step-1 loses spaces: .* take them from the base model"):
        load_tokenizer(folder)


def test_parts_that_their_class_puts_together_wrongly_are_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"the tokenizer of .*step-1 (loses spaces|cannot be loaded)"):
        load_tokenizer(name_class(in_parts(folder), "LlamaTokenizer"))


def test_parts_that_their_class_puts_together_rightly_are_taken(folder: Path) -> None:
    tokenizer = load_tokenizer(name_class(in_parts(folder), "GPT2Tokenizer"))

    assert tokenizer.decode(tokenizer.encode("Ben has 12\napples")) == "Ben has 12\napples"


def test_a_reading_that_parts_from_the_file_is_refused_with_the_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_merges(folder: Path) -> Any:
        other = read_tokenizer(folder)
        other.normalizer = __import__("tokenizers").normalizers.Lowercase()
        return other

    monkeypatch.setattr(loading, "read_tokenizer", without_merges)
    change(folder / "tokenizer_config.json", lambda settings: settings.update(model_max_length=777))  # not read before

    with pytest.raises(
        CheckpointError, match=r"otherwise than tokenizer.json says: 'How many apples.* from its token \d"
    ):
        load_tokenizer(folder)


def test_letters_that_a_tokenizer_writes_small_are_its_own_affair(folder: Path) -> None:
    change(folder / "tokenizer.json", lambda tokenizer: tokenizer.update(normalizer={"type": "Lowercase"}))

    tokenizer = load_tokenizer(folder)

    assert tokenizer.decode(tokenizer.encode("Ada 7", add_special_tokens=False)) == "ada 7"


def test_tokens_beside_the_file_are_added_under_their_ids(folder: Path) -> None:
    size = len(make_tokenizer())
    change(folder / "tokenizer_config.json", lambda settings: settings.pop("added_tokens_decoder", None))
    (folder / "added_tokens.json").write_text(json.dumps({"<note>": size, "<end of note>": size + 1}))

    tokenizer = load_tokenizer(folder)

    assert tokenizer.encode("<end of note>", add_special_tokens=False) == [size + 1]
    assert read_tokenizer(folder).encode("<note>", add_special_tokens=False).ids == [size]


def test_an_added_token_without_its_id_is_refused(folder: Path) -> None:
    size = len(make_tokenizer())
    change(folder / "tokenizer_config.json", lambda settings: settings.pop("added_tokens_decoder", None))
    (folder / "added_tokens.json").write_text(json.dumps({"<note>": size + 5}))

    with pytest.raises(
        CheckpointError, match=f"gives '<note>' the id {size + 5}, and beside tokenizer.json it gets {size}"
    ):
        load_tokenizer(folder)


def test_a_tokenizer_that_lies_in_the_folder_above_is_pointed_to(folder: Path) -> None:
    step = folder / "step-9"
    step.mkdir()

    with pytest.raises(
        CheckpointError, match=f"{step} has no tokenizer .* there is one in {folder}: copy its tokenizer"
    ):
        load_tokenizer(step)
