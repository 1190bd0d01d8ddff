from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from premem.cli import score as cli_score
from premem.cli.main import app
from premem.cli.score import Scoring
from premem.wire.jobs import JobRequest, Template


def test_in_a_chat_user_and_assistant_say_what_the_columns_hold_unless_told_otherwise():
    plain = Template(chat=True)
    asking = Template(chat=True, prompt="{question}\nReason first.", system="Be brief.")

    assert (plain.render_prompt("3 + 4?"), plain.render_target("It is 7.")) == ("3 + 4?", "It is 7.")
    assert asking.render_prompt("3 + 4?") == "3 + 4?\nReason first."
    assert plain.model_dump() == {"prompt": "{question}", "target": "{trace}", "chat": True, "system": ""}
    assert asking.model_dump()["system"] == "Be brief."


@pytest.mark.parametrize(
    "template", [Template(), Template(chat=True), Template(chat=True, system="s", target="{trace}.")]
)
def test_a_template_that_was_stored_is_the_same_again(template: Template):
    request = JobRequest(dataset="d", open=True, template=template)

    assert JobRequest.model_validate_json(request.model_dump_json()).template == template
    assert Template.model_validate(json.loads(template.model_dump_json())) == template


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"system": "Be brief."}, "set chat, or leave out system"),
        ({"chat": True, "prompt": "nothing"}, "must contain {question}"),
        ({"chat": True, "target": "nothing"}, "must contain {trace}"),
    ],
)
def test_a_template_that_cannot_be_is_refused(given: dict[str, object], fault: str):
    with pytest.raises(ValidationError, match=fault):
        Template.model_validate(given)


def test_the_command_line_asks_for_a_chat(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked: list[Scoring] = []
    monkeypatch.setattr(cli_score, "score_with", lambda service, scoring, **_: asked.append(scoring))
    command = ["score", "ds_1", "/runs/checkpoint-5", "--service", "http://service", "--out", str(tmp_path)]

    CliRunner().invoke(app, [*command, "--chat", "--system", "Be brief."], catch_exceptions=False)
    refused = CliRunner().invoke(app, [*command, "--system", "Be brief."])

    assert [one.request.template for one in asked] == [Template(chat=True, system="Be brief.")]
    assert "set chat, or leave out system" in f"{refused.exception}{refused.output}"
