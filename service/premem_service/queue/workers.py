"""The workers that ask for tasks. They keep no state here but that they were seen."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy import Connection, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from premem.wire.bodies import Page
from premem.wire.estimates import WorkerReply
from premem.wire.tasks import LeaseRequest
from premem_service.http.dependencies import DatabaseGiven
from premem_service.queue.progress import moment
from premem_service.storage.db import now
from premem_service.storage.rows import WorkerRow, all_of, first_of
from premem_service.storage.tables import tasks, workers

SEEN_EVERY_SECONDS = 5.0
"""A worker that finds nothing asks every second."""
CONNECTED_SECONDS = 60.0
FORGOTTEN_SECONDS = 24 * 3600.0

router = APIRouter(prefix="/v1/workers", tags=["tasks"])


@router.get("")
def list_workers(database: DatabaseGiven) -> Page[WorkerReply]:
    """Those that asked for a task within the last minute, or have one in hand."""
    with database.connect() as connection:
        items = connected(connection)
    return Page(items=items, next_cursor=None)


def connected(connection: Connection) -> list[WorkerReply]:
    at_work = select(tasks.c.worker).where(tasks.c.state == "leased")
    recent = workers.c.seen_at > now(connection) - CONNECTED_SECONDS
    found = select(workers).where(or_(recent, workers.c.name.in_(at_work))).order_by(workers.c.name)
    return [
        WorkerReply(name=row.name, engine=row.engine, device=row.device, seen_at=moment(row.seen_at))
        for row in all_of(WorkerRow, connection, found)
    ]


def see(connection: Connection, request: LeaseRequest, *, at: float) -> None:
    """A worker asks for a task. Those of yesterday are forgotten, since each start has a name of its own."""
    mine = workers.c.name == request.worker
    equipment = {"engine": request.engine, "device": request.device}
    known = first_of(WorkerRow, connection, select(workers).where(mine))
    if known is None:
        connection.execute(delete(workers).where(workers.c.seen_at < at - FORGOTTEN_SECONDS))
        try:
            with connection.begin_nested():
                connection.execute(insert(workers).values(name=request.worker, seen_at=at, **equipment))
        except IntegrityError:
            return  # it asks twice at once, and was seen by the other request
    elif known.seen_at < at - SEEN_EVERY_SECONDS or (known.engine, known.device) != (request.engine, request.device):
        connection.execute(update(workers).where(mine).values(seen_at=at, **equipment))
