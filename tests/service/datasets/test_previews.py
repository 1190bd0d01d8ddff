from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.service.datasets.uploading import jsonl, rows, upload


def preview(client: TestClient, **asked: Any) -> dict[str, Any]:
    dataset = upload(client, jsonl(rows(10)))["id"]
    told: dict[str, Any] = client.get(f"/v1/datasets/{dataset}/preview", params=asked).json()
    return told


def test_the_first_rows_are_shown_as_prompt_and_target_of_the_papers_template(client: TestClient):
    told = preview(client, rows=2)

    assert told["template"] == {
        "prompt": "{question}\nAnswer:",
        "target": " {trace}\nDone.",
        "chat": False,
        "system": "",
    }
    assert [row["prompt"] for row in told["rows"]] == ["What is 0 + 1?\nAnswer:", "What is 1 + 1?\nAnswer:"]


def test_of_a_chat_it_is_shown_what_user_and_assistant_say(client: TestClient):
    (row,) = preview(client, rows=1, chat=True, system="Be brief.")["rows"]
    shown = preview(client, chat=True)["template"]

    assert row["prompt"] == "What is 0 + 1?"
    assert row["target"] == preview(client, target="{trace}")["rows"][0]["target"]
    assert shown == {"prompt": "{question}", "target": "{trace}", "chat": True, "system": ""}


@pytest.mark.parametrize(
    ("asked", "field"), [({"system": "Be brief."}, "system"), ({"chat": True, "prompt": "nothing"}, "prompt")]
)
def test_a_template_that_cannot_be_is_refused_by_field(client: TestClient, asked: dict[str, Any], field: str):
    told = preview(client, **asked)

    assert (told["status"], told["errors"][0]["field"]) == (422, field)
