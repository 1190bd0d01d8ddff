"""`python -m premem_service`: listen, or look after keys."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from premem.errors import PrememError
from premem_service import logs
from premem_service.app import create_app, prepare
from premem_service.http import auth
from premem_service.settings import Settings
from premem_service.storage.db import Database
from premem_service.storage.rows import KeyRow, all_of
from premem_service.storage.tables import keys

GRACE_SECONDS = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    flags = vars(_parser().parse_args(arguments))
    command = flags.pop("command", None)
    key = {name: flags.pop(name) for name in ("keys_command", "name", "id") if name in flags}
    try:
        settings = Settings(**{name: value for name, value in flags.items() if value is not None})
        if command == "keys":
            return _keys(settings, **key)
        return _serve(settings)
    except ValidationError as error:
        for fault in error.errors():
            print(f"premem: {'.'.join(map(str, fault['loc']))}: {fault['msg']}", file=sys.stderr)
    except PrememError as error:
        print(f"premem: {error}", file=sys.stderr)
    except OperationalError as error:
        print(f"premem: the database does not answer: {error.orig}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m premem_service",
        description="The premem service. Every flag can be set by the environment variable PREMEM_… of its name, too.",
        argument_default=argparse.SUPPRESS,
    )
    for name, field in Settings.model_fields.items():
        if name == "api_key":  # a flag would show it to everybody on the machine
            continue
        default = "" if field.default_factory is not None else f" (default: {field.default})" if field.default else ""
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar=name.split("_")[-1].upper(),
            nargs="+" if name in ("allowed_hosts", "checkpoint_roots") else None,
            help=f"{field.description}{default}".replace("%", "%%"),
        )
    keys_parser = parser.add_subparsers(dest="command").add_parser("keys", help="make, list and revoke API keys")
    commands = keys_parser.add_subparsers(dest="keys_command", required=True)
    commands.add_parser("add", help="make a key and print it, once").add_argument("name", help="whose key it is")
    commands.add_parser("list", help="all keys, without their secrets")
    commands.add_parser("revoke", help="a key that counts no more").add_argument("id", help="as `keys list` shows it")
    return parser


def _serve(settings: Settings) -> int:
    logs.configure()
    app = create_app(settings)
    # Before uvicorn starts, whose answer to a failed start is a traceback.
    prepare(app.state.database, settings)
    listening = _listen(settings)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE_SECONDS, server_header=False
    )
    server = _Server(config, app, address=_address(settings, listening))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # uvicorn ends by them, and then raises them again
    server.run(sockets=[listening])
    return 0 if server.started else 1


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        raise PrememError(
            f"cannot listen on {settings.host}, port {settings.port}: {error.strerror or error}"
        ) from error
    return listening


def _address(settings: Settings, listening: socket.socket) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{listening.getsockname()[1]}"


class _Server(uvicorn.Server):
    """Says where it listens once it does, and ends the streams that have no end of their own."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, *, address: str) -> None:
        super().__init__(config)
        self._app = app
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(f"premem listens on {self._address}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.ending.set()
        super().handle_exit(sig, frame)


def _keys(settings: Settings, *, keys_command: str, **which: Any) -> int:
    database = Database(settings.database)
    database.migrate()
    if keys_command == "list":
        with database.connect() as connection:
            for key in all_of(KeyRow, connection, select(keys).order_by(keys.c.created_at)):
                state = "in use" if key.revoked_at is None else f"revoked {_day(key.revoked_at)}"
                print(f"{key.id}  {_day(key.created_at)}  {state}  {key.name}")
        return 0
    with database.begin() as connection:
        if keys_command == "add":
            print(auth.add_key(connection, name=which["name"]))
        else:
            auth.revoke_key(connection, which["id"])
    return 0


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).date().isoformat()


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
