"""The page: public files without secrets; what they show they ask of /v1, with the reader's key."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fastapi import APIRouter, Request, Response

from premem.errors import NotFound

WEB = Path(__file__).parent
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".txt": "text/plain"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True, slots=True)
class Public:
    """A file that anybody may read, packed once, when the service starts."""

    content: bytes
    packed: bytes
    media_type: str
    etag: str
    """Weak: the same packed and plain."""

    @classmethod
    def read(cls, file: Path) -> Self:
        content = file.read_bytes()
        etag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
        return cls(content, gzip.compress(content, mtime=0), KINDS[file.suffix], etag)


FILES = {file.relative_to(WEB).as_posix(): Public.read(file) for file in WEB.rglob("*") if file.suffix in KINDS}
"""All that there is: no path of a request is ever joined to a folder."""

router = APIRouter(include_in_schema=False)


@router.get("/")
def page(request: Request) -> Response:
    return _sent("index.html", request)


@router.get("/static/{name:path}")
def static(name: str, request: Request) -> Response:
    return _sent(name, request)


def _sent(name: str, request: Request) -> Response:
    if name not in FILES:
        raise NotFound(f"there is no file {name}")
    file = FILES[name]
    headers = {**HEADERS, "ETag": file.etag}
    if file.etag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        return Response(file.packed, media_type=file.media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(file.content, media_type=file.media_type, headers=headers)
