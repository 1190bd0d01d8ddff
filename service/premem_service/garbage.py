"""Artifacts that no row names, and answers that nobody will ask for again."""

from __future__ import annotations

import time

import structlog
from sqlalchemy import Column, delete, select

from premem_service.datasets import shards
from premem_service.jobs.recorded import PREFIX as RECORDED
from premem_service.queue.draws import PREFIX as PARTIALS
from premem_service.queue.results import PREFIX as RESULTS
from premem_service.scores.ranking import PREFIX as SCORES
from premem_service.settings import Settings
from premem_service.storage.db import Database, now
from premem_service.storage.store import Store
from premem_service.storage.tables import dataset_shards, idempotency, jobs, tasks

LONGEST_UPLOAD_SECONDS = 24 * 3600.0
"""The shards of an upload are named by rows only at its end."""
AT_ONCE = 500

log = structlog.get_logger(__name__)


def collect(database: Database, store: Store, settings: Settings) -> int:
    """Delete what is old and not named. Returns how many artifacts went."""
    collected = _sweep(database, store, RESULTS, tasks.c.artifact, age_seconds=settings.garbage_seconds)
    collected += _sweep(database, store, PARTIALS, tasks.c.partial, age_seconds=settings.garbage_seconds)
    collected += _sweep(database, store, SCORES, jobs.c.scores_artifact, age_seconds=settings.garbage_seconds)
    collected += _sweep(database, store, RECORDED, jobs.c.recorded, age_seconds=settings.garbage_seconds)
    uploads_seconds = max(settings.garbage_seconds, LONGEST_UPLOAD_SECONDS)
    collected += _sweep(database, store, f"{shards.FOLDER}/", dataset_shards.c.artifact, age_seconds=uploads_seconds)
    with database.begin() as connection:
        forgotten = now(connection) - settings.idempotency_seconds
        connection.execute(delete(idempotency).where(idempotency.c.created_at < forgotten))
    if collected:
        log.info("garbage collected", artifacts=collected)
    return collected


def _sweep(database: Database, store: Store, prefix: str, named_by: Column[str], *, age_seconds: float) -> int:
    # The store's clock wrote the artifacts' times; an age of hours forgives it some minutes.
    before = time.time() - age_seconds
    old = [artifact.name for artifact in store.list(prefix) if artifact.modified_at < before]
    collected = 0
    for first in range(0, len(old), AT_ONCE):
        some = old[first : first + AT_ONCE]
        with database.connect() as connection:
            named = set(connection.scalars(select(named_by).where(named_by.in_(some))))
        garbage = [name for name in some if name not in named]
        store.delete(garbage)
        collected += len(garbage)
    return collected
