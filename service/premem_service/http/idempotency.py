"""Idempotency-Key: a POST that is sent again gets the answer of the first one, and happens once."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from premem_service.http.problems import ProblemResponse
from premem_service.storage.db import Database, now
from premem_service.storage.rows import IdempotencyRow, first_of
from premem_service.storage.tables import idempotency

KEPT_HEADERS = ("content-type", "location", "retry-after")
LONGEST_ANSWER_BYTES = 2**20
"""Longer answers are not kept; no POST of this service has one."""
TOUCH_SECONDS = 10.0
ABANDONED_SECONDS = 60.0
"""A first request of which nothing was heard for so long died with its service."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class Idempotency:
    """Middleware, behind Authentication: a key means something only to whoever chose it, and for one path."""

    def __init__(self, app: ASGIApp, database: Database, *, kept_seconds: float) -> None:
        self._app = app
        self._database = database
        self._kept_seconds = kept_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = Headers(scope=scope).get("idempotency-key") if scope["type"] == "http" else None
        if key is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif _KEY.fullmatch(key) is None:
            detail = "the Idempotency-Key must be 1 to 255 printable ASCII characters without spaces"
            await ProblemResponse(422, "idempotency-key", detail, instance=scope["path"])(scope, receive, send)
        else:
            asked = _Asked(self._database, key, _scope_name(scope), self._kept_seconds)
            await self._answer(asked, scope, receive, send)

    async def _answer(self, asked: _Asked, scope: Scope, receive: Receive, send: Send) -> None:
        first = await run_in_threadpool(asked.claim)
        if first is None:
            await self._run(asked, scope, receive, send)
            return
        body = _Body(receive)
        answer: ProblemResponse | _Replay
        if first.request_sha256 is None:
            detail = "the first request with this Idempotency-Key is still under way"
            answer = ProblemResponse(
                409, "idempotency-under-way", detail, instance=scope["path"], headers={"Retry-After": "1"}
            )
        elif await body.read_to_end() and body.digest != first.request_sha256:
            detail = "this Idempotency-Key was used for another request; take a new one"
            answer = ProblemResponse(422, "idempotency-key-reused", detail, instance=scope["path"])
        else:
            answer = _Replay(first)
        await answer(scope, receive, send)

    async def _run(self, asked: _Asked, scope: Scope, receive: Receive, send: Send) -> None:
        body, answer = _Body(receive), _Answer(send)
        kept = False
        alive = asyncio.create_task(asked.stay_alive())
        try:
            await self._app(scope, body.receive, answer.send)
            # An answer to a part of a body says nothing of the whole.
            if answer.is_whole and answer.status < 500 and body.ended:
                await run_in_threadpool(asked.keep, body.digest, answer)
                kept = True
        finally:
            alive.cancel()
            with suppress(asyncio.CancelledError):
                await alive
            if not kept:
                await asyncio.shield(run_in_threadpool(asked.forget))
        await answer.pass_on()


@dataclass(frozen=True, slots=True)
class _Asked:
    """One key in one scope, in the database."""

    database: Database
    key: str
    scope: str
    kept_seconds: float

    def claim(self) -> IdempotencyRow | None:
        """None: this request is the first. Otherwise what the first one left; no hash while it is under way."""
        try:
            with self.database.begin() as connection:
                at = now(connection)
                found = first_of(IdempotencyRow, connection, select(idempotency).where(*self._mine).with_for_update())
                if found is not None:
                    kept = self.kept_seconds if found.status is not None else ABANDONED_SECONDS
                    if at - found.created_at < kept:
                        return found
                    connection.execute(delete(idempotency).where(*self._mine))
                connection.execute(insert(idempotency).values(key=self.key, scope=self.scope, created_at=at))
        except IntegrityError:  # another one was first, this very moment
            return IdempotencyRow(self.key, self.scope, None, None, None, None, created_at=0.0)
        return None

    def keep(self, digest: str, answer: _Answer) -> None:
        with self.database.begin() as connection:
            connection.execute(
                update(idempotency)
                .where(*self._mine)
                .values(
                    request_sha256=digest,
                    status=answer.status,
                    headers=answer.kept_headers,
                    body=bytes(answer.body).decode(),
                    created_at=now(connection),
                )
            )

    def forget(self) -> None:
        with self.database.begin() as connection:
            connection.execute(delete(idempotency).where(*self._mine, idempotency.c.status.is_(None)))

    async def stay_alive(self) -> None:
        while True:
            await asyncio.sleep(TOUCH_SECONDS)
            await run_in_threadpool(self._touch)

    def _touch(self) -> None:
        with self.database.begin() as connection:
            under_way = (*self._mine, idempotency.c.status.is_(None))
            connection.execute(update(idempotency).where(*under_way).values(created_at=now(connection)))

    @property
    def _mine(self) -> tuple[Any, Any]:
        return idempotency.c.key == self.key, idempotency.c.scope == self.scope


class _Body:
    """A request's body, hashed as it passes."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._hash = sha256()
        self.ended = False

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not self.ended:
            self._hash.update(message.get("body", b""))
            self.ended = not message.get("more_body", False)
        return message

    async def read_to_end(self) -> bool:
        while not self.ended:
            if (await self.receive())["type"] == "http.disconnect":
                return False
        return True


@dataclass(slots=True)
class _Answer:
    """An answer, held back until it is kept: whoever saw it will see it again."""

    forward: Send
    start: Message | None = None
    body: bytearray = field(default_factory=bytearray)
    is_whole: bool = False
    passed: bool = False
    """Too long to be held back."""

    @property
    def status(self) -> int:
        return 500 if self.start is None else int(self.start["status"])

    @property
    def kept_headers(self) -> dict[str, str]:
        headers = Headers(raw=[] if self.start is None else list(self.start.get("headers", [])))
        return {name: headers[name] for name in KEPT_HEADERS if name in headers}

    async def send(self, message: Message) -> None:
        if self.passed:
            await self.forward(message)
        elif message["type"] == "http.response.start":
            self.start = message
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            if len(self.body) > LONGEST_ANSWER_BYTES:
                await self.pass_on(more_body=message.get("more_body", False))
            else:
                self.is_whole = not message.get("more_body", False)

    async def pass_on(self, *, more_body: bool = False) -> None:
        if self.passed or self.start is None:
            return
        self.passed = True
        await self.forward(self.start)
        await self.forward({"type": "http.response.body", "body": bytes(self.body), "more_body": more_body})


class _Replay:
    """The answer that was kept."""

    def __init__(self, kept: IdempotencyRow) -> None:
        self._kept = kept

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = (self._kept.body or "").encode()
        headers = {**(self._kept.headers or {}), "idempotency-replayed": "true"}
        if self._kept.status != 204:
            headers["content-length"] = str(len(body))
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self._kept.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})


def _scope_name(scope: Scope) -> str:
    """Who asked for what."""
    target = f"{scope['path']}?{scope['query_string'].decode('latin-1')}"
    return f"{scope.get('key', '')} {sha256(target.encode()).hexdigest()}"
