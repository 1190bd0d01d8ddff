"""Who may ask: keys `pmk_<id>_<secret>`, of which only the SHA-256 is kept, and the names that the service answers to."""

from __future__ import annotations

import hmac
import re
import secrets
from hashlib import sha256

from sqlalchemy import Connection, exists, insert, select, update
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from premem.errors import NotFound
from premem_service.http.problems import ProblemResponse
from premem_service.settings import Settings
from premem_service.storage.db import Database, now
from premem_service.storage.tables import keys

PROTECTED = "/v1"
_TOKEN = re.compile(r"pmk_([A-Za-z0-9]{1,16})_[A-Za-z0-9_-]{16,200}")


def add_key(connection: Connection, *, name: str) -> str:
    """Make a key. The answer is the only time that it is seen whole."""
    id_ = secrets.token_hex(4)
    token = f"pmk_{id_}_{secrets.token_hex(24)}"
    connection.execute(insert(keys).values(id=id_, name=name, sha256=_digest(token), created_at=now(connection)))
    return token


def revoke_key(connection: Connection, id_: str) -> None:
    """Raises NotFound where there is no such key that still counts."""
    revoked = update(keys).where(keys.c.id == id_, keys.c.revoked_at.is_(None)).values(revoked_at=now(connection))
    if connection.execute(revoked).rowcount == 0:
        raise NotFound(f"there is no key {id_!r} that is still in use")


def any_key(connection: Connection) -> bool:
    return bool(connection.scalar(select(exists().where(keys.c.revoked_at.is_(None)))))


class Authentication:
    """Middleware: everything under /v1 asks for a key, once there is one.

    Leaves the key's id in `scope["key"]`, "" where none was asked for.
    """

    def __init__(self, app: ASGIApp, database: Database, settings: Settings) -> None:
        self._app = app
        self._database = database
        self._configured = _digest(settings.api_key.get_secret_value()) if settings.api_key else None
        self._open = settings.loopback  # to whoever is on this machine, as long as there are no keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_protected(scope["path"]):
            scope["key"] = await run_in_threadpool(self._key, Headers(scope=scope).get("authorization"))
            if scope["key"] is None:
                await self._refuse(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _key(self, authorization: str | None) -> str | None:
        """The key's id; None for nobody that may ask."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        digest = _digest(token)
        if self._configured is not None and hmac.compare_digest(digest, self._configured):
            return "configured"
        matched = _TOKEN.fullmatch(token)
        with self._database.connect() as connection:
            if matched is not None:
                counts = (keys.c.id == matched[1], keys.c.revoked_at.is_(None))
                known = connection.scalar(select(keys.c.sha256).where(*counts))
                if hmac.compare_digest(digest, known or "-" * 64) and known is not None:
                    return matched[1]
            asked_for = self._configured is not None or not self._open or any_key(connection)
        return None if asked_for else ""

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = "show a key of this service: Authorization: Bearer pmk_…"
        headers = {"WWW-Authenticate": 'Bearer realm="premem"'}
        refusal = ProblemResponse(401, "unauthorized", detail, instance=scope["path"], headers=headers)
        await refusal(scope, receive, send)


class TrustedHost:
    """Middleware: only requests to a name of this service, so that no page of another site gets at it by its own name.

    Starlette's answers in plain text.
    """

    def __init__(self, app: ASGIApp, hosts: list[str]) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._trusts(Headers(scope=scope).get("host", "")):
            detail = "this service does not answer to this Host; PREMEM_ALLOWED_HOSTS says to which it does"
            await ProblemResponse(400, "host", detail, instance=scope["path"])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _trusts(self, host: str) -> bool:
        name = re.sub(r":\d*$", "", host.lower()).rstrip(".")
        suffixes = [name[place:] for place, character in enumerate(name) if character == "."]
        return "*" in self._hosts or name in self._hosts or any(f"*{suffix}" in self._hosts for suffix in suffixes)


def _is_protected(path: str) -> bool:
    return path == PROTECTED or path.startswith(f"{PROTECTED}/")


def _digest(token: str) -> str:
    return sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
