"""Bodies that are gathered in memory have an end; uploads and results bring limits of their own."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from premem_service.http.problems import ProblemResponse

_STREAMED = re.compile(r"/v1/datasets/?|/v1/recorded/?|/v1/tasks/[^/]+/result")


class BodyLimit:
    """Middleware: 413 for a body that is longer than `max_bytes`."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._detail = f"the request body is longer than {max_bytes:,} bytes"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _STREAMED.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await ProblemResponse(413, "too-large", self._detail, instance=scope["path"])(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                # FastAPI passes on nothing but its own exceptions while it reads a body.
                raise HTTPException(413, self._detail)
            return message

        await self._app(scope, counted, send)
