"""Writes the pages about the HTTP API for the site: `python -m docs.openapi`, which `make docs` runs.

docs/reference/openapi.json is the document that a service serves at /openapi.json, and docs/reference/openapi.md is the
same as a page to read. Neither is in git: they follow from the code.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from premem_service.app import create_app
from premem_service.settings import Settings

FOLDER = Path(__file__).parent / "reference"
HEAD = """# The HTTP API

Every request and response of the service, version {version}. A running service serves the same at `/docs`, where
requests can be tried, and at `/openapi.json`; this version is here as [openapi.json](openapi.json).

Failed requests are answered with a [Problem](#body-problem) (RFC 9457), whose `detail` says what to do. A service that
other machines can reach expects `Authorization: Bearer KEY`.
"""
SCHEMAS = "#/components/schemas/"
PROBLEM = "application/problem+json"
Json = dict[str, Any]


def schema() -> Json:
    with tempfile.TemporaryDirectory() as folder:
        return create_app(Settings(data_dir=Path(folder))).openapi()


def page(document: Json) -> str:
    """The whole API as Markdown: the routes by tag, then the bodies that they name."""
    by_tag: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["operation"])[0]
            by_tag.setdefault(tag, []).extend(_route(method.upper(), path, operation))
    lines = [HEAD.format(version=document["info"]["version"])]
    for tag, routes in by_tag.items():
        lines += [f"## {tag.capitalize()}", "", *routes]
    lines += ["## Bodies", ""]
    for name, body in sorted(document["components"]["schemas"].items(), key=lambda pair: _title(pair[0])):
        lines += _body(name, body)
    return "\n".join(lines) + "\n"


def _route(method: str, path: str, operation: Json) -> list[str]:
    lines = [f"### `{method} {path}`", "", _text(operation.get("description") or operation.get("summary", "")), ""]
    if parameters := operation.get("parameters"):
        lines += ["| parameter | in | type | |", "| --- | --- | --- | --- |"]
        for one in parameters:
            about = _about(one["schema"], one.get("description", ""), required=one.get("required", False))
            lines.append(f"| `{one['name']}` | {one['in']} | {_type(one['schema'])} | {about} |")
        lines.append("")
    if body := operation.get("requestBody"):
        lines += [f"Request body: {_contents(body['content'])}.", ""]
    lines += ["| status | | body |", "| --- | --- | --- |"]
    responses = sorted(operation["responses"].items())
    for status, response in responses:
        if (content := response.get("content", {})).keys() != {PROBLEM}:
            lines.append(f"| {status} | {_cell(response['description'])} | {_contents(content)} |")
    problems = [status for status, response in responses if PROBLEM in response.get("content", {})]
    return [*lines, "", *([f"Problems: {', '.join(problems)}.", ""] if problems else [])]


def _contents(content: Json) -> str:
    return ", ".join(
        f"{_type(one['schema'])} (`{kind}`)" if "schema" in one else f"`{kind}`" for kind, one in content.items()
    )


def _body(name: str, body: Json) -> list[str]:
    lines = [f"### {_title(name)} {{#{_anchor(name)}}}", "", _text(body.get("description", "")), ""]
    if "properties" not in body:
        return [*lines, _type(body), ""]
    lines += ["| field | type | |", "| --- | --- | --- |"]
    required = body.get("required", [])
    for field, about in body["properties"].items():
        described = _about(about, about.get("description", ""), required=field in required)
        lines.append(f"| `{field}` | {_type(about)} | {described} |")
    return [*lines, ""]


def _about(shape: Json, description: str, *, required: bool) -> str:
    parts = [_cell(description)] if description else []
    if required:
        parts.append("*Required.*")
    elif shape.get("default") not in (None, "", [], {}):
        parts.append(f"Default: `{json.dumps(shape['default'], ensure_ascii=False)}`.")
    return " ".join(parts)


def _type(shape: Json) -> str:
    """A type in a few words, with links to bodies."""
    if "$ref" in shape:
        name = shape["$ref"].removeprefix(SCHEMAS)
        return f"[{_title(name)}](#{_anchor(name)})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in shape:
            return " or ".join(dict.fromkeys(_type(one) for one in shape[several]))
    if "const" in shape:
        return f"`{json.dumps(shape['const'])}`"
    if "enum" in shape:
        return " or ".join(f"`{json.dumps(one)}`" for one in shape["enum"])
    if shape.get("type") == "array":
        return f"list of {_type(shape['items'])}" if "items" in shape else "list"
    if shape.get("type") == "object" and isinstance(shape.get("additionalProperties"), dict):
        return f"map of names to {_type(shape['additionalProperties'])}"
    return str(shape.get("format") or shape.get("type", "anything"))


def _title(name: str) -> str:
    """`Page_Job_` is how FastAPI writes `Page[Job]`."""
    return re.sub(r"^(\w+?)_(\w+)_$", r"\1 of \2", name).replace("_", " ")


def _anchor(name: str) -> str:
    return f"body-{name.lower().strip('_').replace('_', '-')}"


def _text(description: str) -> str:
    return description.strip().replace("<", "&lt;")


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", _text(text)).replace("|", "\\|")


def main() -> None:
    document = schema()
    (FOLDER / "openapi.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (FOLDER / "openapi.md").write_text(page(document), encoding="utf-8")


if __name__ == "__main__":
    main()
