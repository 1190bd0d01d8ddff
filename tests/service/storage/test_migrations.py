"""The tables' history, on both databases."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from premem_service.__main__ import main
from premem_service.http import auth
from premem_service.storage.db import Database, DatabaseError, alembic_config, head, now, revision
from premem_service.storage.tables import metadata
from tests.end_to_end.processes import HOUSE


def test_up_compare_down_up(database_url):
    database = Database(database_url)
    database.migrate()
    with database.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        up, differences = revision(connection), compare_metadata(context, metadata)
    with database.begin() as connection:
        command.downgrade(alembic_config(connection), "base")
    with database.connect() as connection:
        down, left = revision(connection), inspect(connection).get_table_names()
    database.migrate()
    with database.connect() as connection:
        again = set(inspect(connection).get_table_names())
    database.close()

    assert up == head()
    assert differences == []
    assert (down, left) == (None, ["alembic_version"])
    assert again == {*metadata.tables, "alembic_version"}


def test_migrating_twice_changes_nothing(database):
    database.migrate()

    assert database.is_current()


def test_a_newer_database_is_refused(database):
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(DatabaseError, match="9999, which a newer premem made"):
        database.migrate()


@pytest.mark.parametrize("revision", ["0001", "0007", "0010"])
def test_a_database_from_before_the_first_release_is_refused_with_what_to_do(database, revision):
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})

    with pytest.raises(
        DatabaseError, match=rf"revision {revision}, which a premem before 0\.2\.0 made.*PREMEM_DATA_DIR"
    ):
        database.migrate()


def test_the_service_refuses_such_a_database_in_one_line(tmp_path, capsys):
    database = Database(f"sqlite:///{tmp_path / 'premem.db'}")
    database.migrate()
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0010'"))
    database.close()

    status = main(["--data-dir", str(tmp_path), "--port", "0"])

    assert status == 2
    assert capsys.readouterr().err.startswith("premem: the database is at revision 0010, which a premem before 0.2.0")


def test_services_that_start_at_once_migrate_once(database_url):
    databases = [Database(database_url) for _ in range(6)]

    with ThreadPoolExecutor(len(databases)) as threads:
        list(threads.map(Database.migrate, databases))

    assert all(database.is_current() for database in databases)
    for database in databases:
        database.close()


@pytest.mark.postgres
def test_two_processes_start_at_once_on_an_empty_postgresql(empty_postgres):
    script = "import sys; from premem_service.storage.db import Database; Database(sys.argv[1]).migrate()"
    arguments = [sys.executable, "-c", script, empty_postgres]

    started = [subprocess.Popen(arguments, cwd=HOUSE, stderr=subprocess.PIPE) for _ in range(2)]

    assert [(process.communicate()[1], process.returncode) for process in started] == [(b"", 0)] * 2
    database = Database(empty_postgres)
    assert database.is_current()
    database.close()


def test_two_processes_start_at_once_on_an_empty_sqlite(tmp_path):
    script = "import sys; from premem_service.storage.db import Database; Database(sys.argv[1]).migrate()"
    arguments = [sys.executable, "-c", script, f"sqlite:///{tmp_path / 'new.db'}"]

    started = [subprocess.Popen(arguments, cwd=HOUSE, stderr=subprocess.PIPE) for _ in range(2)]

    assert [(process.communicate()[1], process.returncode) for process in started] == [(b"", 0)] * 2


def test_the_database_tells_the_time_of_the_moment(database):
    with database.begin() as connection:
        first = now(connection)
        second = now(connection)
        while second == first:
            second = now(connection)

    assert second > first > 1.7e9


def test_a_failed_write_leaves_nothing(database):
    def write() -> None:
        with database.begin() as connection:
            auth.add_key(connection, name="ours")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()

    with database.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM keys")) == 0
