from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from premem_worker.settings import Settings, read_settings


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PREMEM_"):
            monkeypatch.delenv(name)


def test_a_worker_without_options_serves_the_service_on_this_machine():
    settings = read_settings([])

    assert settings.service == "http://127.0.0.1:8321"
    assert settings.engine == "auto"
    assert settings.checkpoint_roots == []
    assert not settings.hub
    assert settings.exit_when_idle is None


def test_two_workers_on_one_machine_have_different_names():
    assert read_settings([]).name != read_settings([]).name


def test_an_option_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PREMEM_WORKER_ENGINE", "vllm")
    monkeypatch.setenv("PREMEM_WORKER_NAME", "from-environment")

    settings = read_settings(["--engine", "transformers"])

    assert settings.engine == "transformers"
    assert settings.name == "from-environment"


def test_checkpoint_roots_are_given_one_by_one_or_like_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()

    as_options = read_settings(["--checkpoint-root", str(one), "--checkpoint-root", str(two)])
    monkeypatch.setenv("PREMEM_WORKER_CHECKPOINT_ROOTS", f"{one}{os.pathsep}{two}")

    assert as_options.checkpoint_roots == read_settings([]).checkpoint_roots == [one, two]


def test_checkpoint_roots_may_be_a_json_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PREMEM_WORKER_CHECKPOINT_ROOTS", json.dumps([str(tmp_path)]))

    assert read_settings([]).checkpoint_roots == [tmp_path]


def test_the_key_is_taken_from_the_environment_and_never_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PREMEM_API_KEY", "pmk_id_secret")

    settings = read_settings([])

    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "pmk_id_secret"
    assert "secret" not in repr(settings)


def test_the_service_of_the_client_is_the_workers_too_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PREMEM_SERVICE", "http://one:1/")

    assert read_settings([]).service == "http://one:1"
    assert read_settings(["--service", "http://two:2"]).service == "http://two:2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--service", "localhost:8321"], "service: Value error, 'localhost:8321' is no URL"),
        (["--service", "http://"], "is no URL"),
        (["--checkpoint-root", "/no/such/folder"], "/no/such/folder is no folder"),
        (["--graders", "0"], "graders: Input should be greater than or equal to 1"),
        (["--exit-when-idle", "soon"], "exit_when_idle: Input should be a valid number"),
        (["--once", "--exit-when-idle", "3"], "not allowed with"),
        (["--engine", "magic"], "invalid choice: 'magic'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        read_settings(arguments)

    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_every_field_says_what_it_is():
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
