"""The page: public files without secrets; what they show they ask of /v1, with the reader's key."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from premem.errors import NotFound

WEB = Path(__file__).with_name("web")
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".txt": "text/plain"}
FILES = {str(file.relative_to(WEB)): file for file in WEB.rglob("*") if file.suffix in KINDS}
"""All that there is: no path of a request is ever joined to a folder."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
def page() -> FileResponse:
    return _sent("index.html")


@router.get("/static/{name:path}")
def static(name: str) -> FileResponse:
    return _sent(name)


def _sent(name: str) -> FileResponse:
    if name not in FILES:
        raise NotFound(f"there is no file {name}")
    return FileResponse(FILES[name], media_type=KINDS[FILES[name].suffix], headers=HEADERS)
