"""The tokens of a preview, held to those that workers score."""

from __future__ import annotations

import builtins
import functools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import processors

from premem.errors import CheckpointError
from premem.records import Example
from premem.wire.jobs import Template
from premem_service.datasets.tokens import tokenizer_of
from premem_service.settings import Settings
from premem_worker.engines.loading import load_tokenizer
from premem_worker.passes.prompts import Prompts
from tests.checkpoints import BOS, EOS, make_tokenizer
from tests.fakes import make_task
from tests.service.datasets.uploading import jsonl, rows, upload

TEXTS = st.text(alphabet=st.sampled_from("ab 7\nÄé€🙂#<s>"), max_size=20)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "runs").mkdir()
    make_tokenizer().save_pretrained(tmp_path / "runs" / "step-1")
    return Settings(data_dir=tmp_path / "data", checkpoint_roots=[tmp_path / "runs"], round_seconds=0.05)


def preview(client: TestClient, **asked: Any) -> dict[str, Any]:
    dataset = upload(client, jsonl(rows(10)))["id"]
    answer = client.get(f"/v1/datasets/{dataset}/preview", params=asked)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


@pytest.fixture(scope="module", params=["in front", "behind, too"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer that writes <s> in front of every text, or </s> behind it, too; saved with a cut."""
    folder = tmp_path_factory.mktemp("runs") / "step-1"
    make_tokenizer().save_pretrained(folder)
    from tokenizers import Tokenizer

    changed = Tokenizer.from_file(str(folder / "tokenizer.json"))
    changed.enable_truncation(8)
    if request.param != "in front":
        special = [(name, changed.token_to_id(name)) for name in (BOS, EOS)]
        changed.post_processor = processors.TemplateProcessing(single=f"{BOS} $A {EOS}", special_tokens=special)
    changed.save(str(folder / "tokenizer.json"))
    return folder


@functools.cache
def workers_tokenizer(checkpoint: Path) -> Any:
    return load_tokenizer(checkpoint)


@hypothesis.settings(deadline=None)
@given(question=TEXTS, trace=TEXTS, middle=st.sampled_from(["", " ", "\n", "\nAnswer:"]))
def test_scored_are_the_tokens_that_the_worker_scores(checkpoint: Path, question: str, trace: str, middle: str):
    template = Template(prompt=f"{{question}}{middle}", target=" {trace}\nDone.")
    prompts = Prompts(make_task(template=template), workers_tokenizer(checkpoint), chat=None)
    example = Example(id="e", question=question, trace=trace)
    span = prompts.span(prompts.tokens(prompts.prompt(example)), example)
    prompt, target = template.render_prompt(question), template.render_target(trace)

    shown = tokenizer_of(str(checkpoint), roots=[checkpoint.parent]).split(prompt, target)

    assert (len(shown.texts), shown.target_start, shown.shifted) == (len(span.tokens), span.target_start, span.shifted)
    assert "".join(shown.texts) == prompt + target


def test_each_token_has_the_text_that_it_covers(checkpoint: Path):
    shown = tokenizer_of(str(checkpoint), roots=[checkpoint.parent]).split("How many apples 🙂?\nAnswer:", " 12\nDone.")

    smile = shown.texts.index("🙂")
    assert shown.texts[0] == ""  # <s>
    assert shown.texts[smile + 1 : smile + 4] == ["", "", ""]  # its further bytes, for which there are no merges
    assert "".join(shown.texts[shown.target_start :]) == " 12\nDone."


def test_a_preview_shows_tokens_of_a_checkpoint_that_the_service_may_read(client: TestClient, settings: Settings):
    (root,) = settings.checkpoint_roots
    for named in ("step-1", str(root / "step-1")):
        told = preview(client, rows=2, checkpoint=named)

        row = told["rows"][1]
        assert told["untokenized"] is None
        assert "".join(row["tokens"]["texts"]) == row["prompt"] + row["target"]
        assert "".join(row["tokens"]["texts"][row["tokens"]["target_start"] :]) == row["target"]


@pytest.mark.parametrize("named", ["gone", "../data", "/etc", "org/name", "s3://bucket/step-1", "a\0b", "x" * 4000])
def test_where_there_are_no_tokens_it_is_said_why(client: TestClient, named: str):
    told = preview(client, checkpoint=named)

    assert told["untokenized"]
    assert [row["tokens"] for row in told["rows"]] == [None] * 3


def test_no_link_leads_out_of_the_roots(client: TestClient, settings: Settings, tmp_path: Path):
    (root,) = settings.checkpoint_roots
    shutil.move(root / "step-1", tmp_path / "secret")
    os.symlink(tmp_path / "secret", root / "step-1")
    (root / "step-2").mkdir()
    os.symlink(tmp_path / "secret" / "tokenizer.json", root / "step-2" / "tokenizer.json")

    for named in ("step-1", "step-2"):
        assert "under none of PREMEM_CHECKPOINT_ROOTS" in preview(client, checkpoint=named)["untokenized"]


def test_a_chats_turns_are_not_guessed(client: TestClient):
    told = preview(client, checkpoint="step-1", chat=True)

    assert "by the workers" in told["untokenized"]
    assert told["rows"][0]["tokens"] is None


def test_a_tokenizer_that_cannot_be_read_is_told_and_read_once_it_can_be(client: TestClient, settings: Settings):
    file = settings.checkpoint_roots[0] / "step-1" / "tokenizer.json"
    good = file.read_bytes()
    file.write_text("{}")
    before = preview(client, checkpoint="step-1")["untokenized"]
    file.write_bytes(good)

    assert "tokenizer.json of step-1 cannot be read" in before
    assert preview(client, checkpoint="step-1")["untokenized"] is None


def test_without_the_library_there_are_characters(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, settings: Settings
):
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "tokenizers":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)

    assert "premem[previews]" in preview(client, checkpoint="step-1")["untokenized"]


def test_a_service_without_roots_reads_nothing(tmp_path: Path):
    with pytest.raises(ValidationError, match="is no folder"):
        Settings(checkpoint_roots=[tmp_path / "gone"])
    with pytest.raises(CheckpointError, match="names no folder"):
        tokenizer_of(str(tmp_path), roots=[])
    assert Settings().checkpoint_roots == []


def test_roots_are_told_in_the_environment_as_to_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()

    for told in (f"{one}{os.pathsep}{two}", json.dumps([str(one), str(two)])):
        monkeypatch.setenv("PREMEM_CHECKPOINT_ROOTS", told)
        assert Settings().checkpoint_roots == [one, two]
