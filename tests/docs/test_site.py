"""The website of the docs has every page, and its page about the HTTP API every route and body."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from docs.openapi import page, schema

HOUSE = Path(__file__).parents[2]
DOCS = HOUSE / "docs"
GENERATED = "reference/openapi.md"


def named_pages(entry: object) -> list[str]:
    """The pages in a part of the navigation, in order."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in named_pages(part)]


@pytest.fixture(scope="module")
def document():
    return schema()


def test_the_navigation_names_every_page_once():
    navigation = yaml.safe_load((HOUSE / "mkdocs.yml").read_text())["nav"]
    written = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} | {GENERATED}

    assert sorted(named_pages(navigation)) == sorted(written)


def test_the_api_page_has_a_section_for_every_route_and_body(document):
    written = page(document)
    headings = re.findall(r"^### (.+)$", written, re.MULTILINE)
    routes = [f"`{method.upper()} {path}`" for path, operations in document["paths"].items() for method in operations]

    assert len(headings) == len(routes) + len(document["components"]["schemas"])
    assert set(routes) <= set(headings)


def test_links_on_the_api_page_lead_to_its_sections(document):
    written = page(document)

    assert set(re.findall(r"\]\(#([^)]+)\)", written)) <= set(re.findall(r"\{#([^}]+)\}", written))


def test_a_field_says_its_type_its_default_and_what_it_is():
    body = {
        "description": "How answers are drawn.",
        "required": ["stop"],
        "properties": {
            "samples": {"type": "integer", "default": 5, "description": "Answers | example."},
            "stop": {"type": "array", "items": {"type": "string"}},
            "grader": {"anyOf": [{"$ref": "#/components/schemas/GraderChoice"}, {"type": "null"}]},
        },
    }
    document = {"info": {"version": "1"}, "paths": {}, "components": {"schemas": {"Sampling": body}}}

    lines = page(document).splitlines()

    assert "| `samples` | integer | Answers \\| example. Default: `5`. |" in lines
    assert "| `stop` | list of string | *Required.* |" in lines
    assert "| `grader` | [GraderChoice](#body-graderchoice) or null |  |" in lines
