"""The database: SQLite in a file or PostgreSQL, one behaviour on both.

Write transactions take SQLite's lock when they begin, so none fails halfway because another one wrote first.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from premem.errors import PrememError

BUSY_SECONDS = 30.0
MIGRATION_LOCK = 7_236_636
MIGRATIONS = Path(__file__).parents[1] / "migrations"
"""Any number, the same in every service."""
UNRELEASED = frozenset(f"{number:04}" for number in range(1, 11))
"""Revisions of the tables as they were before 0.2.0, the first release: no migration leads on from them."""

_CLOCKS = {
    "sqlite": text("SELECT (julianday('now') - 2440587.5) * 86400.0"),
    "postgresql": text("SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)"),
}


class DatabaseError(PrememError):
    """The database is none that this service can work with."""


class Database:
    """Connections to one database. Safe to use from several threads."""

    def __init__(self, url: str) -> None:
        parsed = _url(url)
        self.kind = parsed.get_backend_name()
        if self.kind not in _CLOCKS:
            raise DatabaseError(f"premem works with SQLite and PostgreSQL, not {self.kind}: check PREMEM_DATABASE_URL")
        self._turn: AbstractContextManager[Any] = nullcontext()
        if self.kind == "sqlite":
            self.engine = _sqlite(parsed)
            # SQLite's own waiting is a poll that starves some; threads of one process queue here instead.
            self._turn = threading.RLock()
        else:
            self.engine = create_engine(parsed, pool_size=20, max_overflow=20, pool_pre_ping=True)
        self._writing = self.engine.execution_options(writing=True)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A write transaction, committed at the end of the block and rolled back by an exception."""
        with self._turn, self._writing.begin() as connection:
            yield connection

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection for reading: a snapshot on SQLite, statement by statement on PostgreSQL."""
        with self.engine.connect() as connection:
            yield connection

    def close(self) -> None:
        self.engine.dispose()

    def migrate(self) -> None:
        """Bring the tables up to date. Safe when several services start at once.

        Raises DatabaseError where the tables were made by a newer premem, or before the first release.
        """
        with self.begin() as connection:
            if self.kind == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            current = revision(connection)
            if current is not None:
                _refuse_unknown(current)
            if current != head():
                command.upgrade(alembic_config(connection), "head")

    def is_current(self) -> bool:
        """Whether the tables are those that this service was written for."""
        with self.connect() as connection:
            return revision(connection) == head()


def now(connection: Connection) -> float:
    """Seconds since 1970 by the database's clock, at this moment (not at the transaction's start)."""
    seconds: float = connection.execute(_CLOCKS[connection.dialect.name]).scalar_one()
    return seconds


def revision(connection: Connection) -> str | None:
    """Of the tables that are there; None for an empty database."""
    return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    """The newest revision that this premem knows."""
    return _scripts().get_current_head()


def alembic_config(connection: Connection) -> Config:
    """For Alembic's commands, over a connection whose transaction is the caller's."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _refuse_unknown(current: str) -> None:
    if current in UNRELEASED:
        raise DatabaseError(
            f"the database is at revision {current}, which a premem before 0.2.0 made: this premem does not know that "
            "revision and cannot take over its tables. Name an empty folder with PREMEM_DATA_DIR (or an empty database "
            "with PREMEM_DATABASE_URL and an empty store with PREMEM_STORE_URL), and upload and score again; to read "
            "what is in the old one, start the premem that made it"
        )
    if current not in {script.revision for script in _scripts().walk_revisions()}:
        raise DatabaseError(
            f"the database is at revision {current}, which a newer premem made; this one knows up to {head()}. "
            "Install that premem again, or point PREMEM_DATABASE_URL at another database"
        )


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(MIGRATIONS))


def _url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise DatabaseError(
            f"{url!r} is no database URL: PREMEM_DATABASE_URL takes sqlite:///FILE or postgresql://…"
        ) from error
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def _sqlite(url: URL) -> Engine:
    if sqlite3.sqlite_version_info < (3, 35):
        raise DatabaseError(f"SQLite {sqlite3.sqlite_version} is too old: premem needs 3.35, or PostgreSQL")
    if not url.database or url.database == ":memory:":
        raise DatabaseError("SQLite must be in a file (sqlite:///premem.db): several connections share it")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, pool_size=20, max_overflow=20)

    @event.listens_for(engine, "connect")
    def _configure(raw: sqlite3.Connection, _record: object) -> None:
        raw.isolation_level = None  # BEGIN is ours to say
        raw.execute("PRAGMA foreign_keys = ON")
        raw.execute("PRAGMA synchronous = NORMAL")
        _into_wal(raw)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _into_wal(raw: sqlite3.Connection) -> None:
    """The change to WAL does not wait for another connection's lock, so two services that start at once must try again."""
    deadline = time.monotonic() + BUSY_SECONDS
    while raw.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            raw.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
