"""Making an upload a data set: its shards and its row of the table, both or neither."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from premem.wire.datasets import Dataset
from premem_service.datasets.ingest import Ingested
from premem_service.datasets.reading import found_dataset, manifest
from premem_service.storage.db import Database, now
from premem_service.storage.rows import DatasetRow
from premem_service.storage.store import Store, StoreError
from premem_service.storage.tables import dataset_shards, datasets


def as_reply(row: DatasetRow) -> Dataset:
    return Dataset.model_validate({**asdict(row), "created_at": datetime.fromtimestamp(row.created_at, UTC)})


def keep(database: Database, store: Store, ingested: Ingested, *, name: str) -> tuple[Dataset, bool]:
    """Make what was stored a data set, or find that there is one of the same content. True: it is new.

    An existing one that has lost files gets the new ones. Artifacts that are not needed are deleted.
    """
    artifacts = [shard.artifact for shard in ingested.shards]
    try:
        _check_stored(store, artifacts)
        try:
            return _create(database, ingested, name=name), True
        except IntegrityError:  # the same rows were committed first, by this transaction's side or long ago
            return _existing(database, store, ingested), False
    except SQLAlchemyError:
        raise  # whether the commit took place is not known: what no row names is collected as garbage
    except BaseException:
        store.delete(artifacts)
        raise


def _check_stored(store: Store, artifacts: Sequence[str]) -> None:
    """An upload that takes longer than garbage is let lie finds its first shards collected."""
    folder = artifacts[0].rpartition("/")[0]
    if not set(artifacts) <= {artifact.name for artifact in store.list(folder)}:
        raise StoreError("the upload took so long that its first files were collected as garbage; send it again")


def _create(database: Database, ingested: Ingested, *, name: str) -> Dataset:
    """Raises IntegrityError where there is a data set of this id."""
    with database.begin() as connection:
        newest = connection.scalar(select(func.max(datasets.c.created_at))) or 0.0
        row: dict[str, Any] = {
            "id": ingested.id,
            "name": name,
            "rows": ingested.rows,
            "bytes": ingested.bytes,
            "columns": ingested.columns.model_dump(),
            "grader": ingested.grader.model_dump(),
            "grader_reason": ingested.grader_reason,
            "ungradable": ingested.ungradable,
            "ungradable_lines": [
                {"line": bad.line, "field": bad.field, "message": bad.message} for bad in ingested.ungradable_lines
            ],
            "chats": ingested.chats,
            "repaired": ingested.repaired,
            # No two alike: pages are cut by it, and SQLite's clock counts milliseconds.
            "created_at": max(now(connection), newest + 1e-6),
        }
        connection.execute(insert(datasets).values(row))
        _name_shards(connection, ingested)
        return as_reply(found_dataset(connection, ingested.id))


def _existing(database: Database, store: Store, ingested: Ingested) -> Dataset:
    with database.connect() as connection:
        dataset = as_reply(found_dataset(connection, ingested.id))
        old = manifest(connection, ingested.id)
    unneeded = ingested.shards
    if not all(store.exists(shard.artifact) for shard in old):
        with database.begin() as connection:
            found_dataset(connection, ingested.id)
            connection.execute(delete(dataset_shards).where(dataset_shards.c.dataset == ingested.id))
            _name_shards(connection, ingested)
            connection.execute(update(datasets).where(datasets.c.id == ingested.id).values(bytes=ingested.bytes))
        unneeded = old
    store.delete(shard.artifact for shard in unneeded)
    return dataset


def _name_shards(connection: Connection, ingested: Ingested) -> None:
    rows = [
        {"dataset": ingested.id, "start": shard.start, "stop": shard.stop, "artifact": shard.artifact}
        for shard in ingested.shards
    ]
    connection.execute(insert(dataset_shards), rows)
