"""The page's source files: what tools that know JavaScript do not hold."""

from __future__ import annotations

import json
import re
from graphlib import TopologicalSorter
from typing import Any

import pytest

from premem_service.app import create_app
from premem_service.settings import Settings
from premem_service.web.pages import FILES, WEB

OURS = [
    file for file in WEB.rglob("*") if file.suffix in {".js", ".ts", ".css", ".html"} and "vendor" not in file.parts
]
TYPES = (WEB / "types.d.ts").read_text()
ALIASES = dict(re.findall(r"export type (\w+) =\s*([^;]+);", TYPES))
INTERFACES = {
    name: {
        field: (optional == "?", " ".join(type_.split()))
        for field, optional, type_ in re.findall(r"^  (\w+)(\??):\s*(.*?);$", body, re.MULTILINE | re.DOTALL)
    }
    for name, body in re.findall(r"^export interface (\w+)[^{]*\{\n(.*?)^\}", TYPES, re.MULTILINE | re.DOTALL)
}


def imports() -> dict[str, set[str]]:
    """Of every module of the page, by its path under the folder."""
    found = {}
    for file in OURS:
        if file.suffix == ".js":
            paths = re.findall(r'^import [^"]*"(\.[^"]+)";$', file.read_text(), re.MULTILINE)
            named = {(file.parent / path).resolve().relative_to(WEB.resolve()).as_posix() for path in paths}
            found[file.relative_to(WEB).as_posix()] = named
    return found


def spelled(schema: dict[str, Any]) -> str:
    """A JSON schema as TypeScript writes it."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2].removesuffix("-Output")
    if "anyOf" in schema:
        return " | ".join(map(spelled, schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(map(json.dumps, schema["enum"]))
    if "prefixItems" in schema:
        return f"[{', '.join(map(spelled, schema['prefixItems']))}]"
    if schema["type"] == "array":
        item = spelled(schema["items"])
        return f"({item})[]" if "|" in item else f"{item}[]"
    return "number" if schema["type"] == "integer" else str(schema["type"])


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    app = create_app(Settings(data_dir=tmp_path_factory.mktemp("sources")))
    found: dict[str, Any] = app.openapi()["components"]["schemas"]
    return {name.removesuffix("-Output"): schema for name, schema in found.items()}


@pytest.mark.parametrize("name", sorted(INTERFACES.keys() - {"Page", "JobRequest"}))
def test_a_reply_has_the_fields_that_the_api_documents(schemas, name):
    properties = schemas[name]["properties"]

    documented = {field: spelled(properties[field]) for field in INTERFACES[name]}

    assert documented == {field: ALIASES.get(type_, type_) for field, (_, type_) in INTERFACES[name].items()}


def test_a_job_is_requested_by_fields_that_the_api_takes(schemas):
    properties = schemas["JobRequest"]["properties"]

    required = {field for field, (optional, _) in INTERFACES["JobRequest"].items() if not optional}

    assert INTERFACES["JobRequest"].keys() <= properties.keys()
    assert set(schemas["JobRequest"]["required"]) <= required


def test_no_module_imports_itself_by_way_of_others():
    graph = imports()

    order = list(TopologicalSorter(graph).static_order())

    assert order[-1] == "app.js"
    assert set(order) == set(graph)


def test_views_are_imported_by_the_router_and_by_views_alone():
    importing = {name for name, imported in imports().items() if any(path.startswith("views/") for path in imported)}

    assert "app.js" in importing
    assert all(name == "app.js" or name.startswith("views/") for name in importing)


def test_no_line_is_past_120_columns():
    long = {
        (file.name, number): len(line)
        for file in OURS
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if len(line) > 120
    }

    assert long == {}


def test_what_a_browser_loads_is_served_and_nothing_else():
    loaded = set(imports()) | {"index.html", "style.css"}

    assert loaded <= FILES.keys()
    assert {name for name in FILES if not name.startswith("vendor/")} == loaded
