"""How Alembic reaches the database: over the connection it is given, or the one that PREMEM_DATABASE_URL names."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from premem_service.storage.tables import metadata


def migrate(connection: Connection) -> None:
    # SQLite cannot alter most of a table: batch mode makes a new one, copies and drops the old one, which takes along the
    # rows that refer to it. docs/compatibility.md says for which tables a migration must do without.
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    from premem_service.settings import Settings
    from premem_service.storage.db import Database

    with Database(Settings().database).begin() as connection:
        migrate(connection)
