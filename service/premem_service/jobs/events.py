"""A live view of a job: Server-Sent Events until it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from premem.wire.jobs import ENDED, Job
from premem_service.http.dependencies import DatabaseGiven
from premem_service.http.problems import described
from premem_service.queue.progress import job_reply
from premem_service.storage.db import Database

POLL_SECONDS = 0.5
TOLD_AGAIN_SECONDS = 5.0
"""The estimate of the time left changes all the time, and is worth an event only so often."""

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


def _existing(job: str, database: DatabaseGiven) -> Job:
    """Looked up before the stream begins: a job that there is not is a 404, not an empty stream."""
    return _read(database, job)


@router.get("/{job}/events", response_class=EventSourceResponse, responses=described(404))
async def job_events(
    request: Request, first: Annotated[Job, Depends(_existing)], database: DatabaseGiven
) -> AsyncIterable[ServerSentEvent]:
    """An event `job` with the whole job whenever it changes; the stream ends when the job has ended."""
    sent, sent_at = first, asyncio.get_running_loop().time()
    yield ServerSentEvent(event="job", data=first)
    while sent.state not in ENDED and not request.app.state.ending.is_set():
        await asyncio.sleep(POLL_SECONDS)
        seen = await run_in_threadpool(_read, database, sent.id)
        changed = seen.model_copy(update={"seconds_left": sent.seconds_left}) != sent
        at = asyncio.get_running_loop().time()
        if changed or (seen.seconds_left != sent.seconds_left and at - sent_at >= TOLD_AGAIN_SECONDS):
            sent, sent_at = seen, at
            yield ServerSentEvent(event="job", data=seen)


def _read(database: Database, job: str) -> Job:
    with database.connect() as connection:
        return job_reply(connection, job)
