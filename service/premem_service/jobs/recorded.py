"""Runs that others recorded, imported as jobs that need no worker."""

from __future__ import annotations

from uuid import uuid4

from fastapi import APIRouter, Request, Response
from sqlalchemy import insert, select
from starlette.concurrency import run_in_threadpool

from premem.errors import InputError
from premem.payloads.recordings import COLUMNS, METADATA, Recording, decode
from premem.wire.jobs import Checkpoint, Job, JobRequest, Sampling
from premem_service.http.dependencies import DatabaseGiven, SettingsGiven, StoreGiven, Wake
from premem_service.http.problems import FieldError, TooLarge, described
from premem_service.jobs.inserting import insert_job
from premem_service.queue.progress import job_reply
from premem_service.storage.db import Database, now
from premem_service.storage.store import Store
from premem_service.storage.tables import checkpoints, datasets

PREFIX = "recorded/"

router = APIRouter(prefix="/v1/recorded", tags=["jobs"])


@router.post(
    "",
    status_code=202,
    responses=described(413, 507),
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": (
                f"Parquet, one row per example that was trained on: {', '.join(COLUMNS)} (the last two hold a number per "
                f"checkpoint). The file's metadata holds, under {METADATA!r}, a RecordedRun as JSON."
            ),
            "content": {"application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def post_recorded(
    request: Request,
    response: Response,
    database: DatabaseGiven,
    store: StoreGiven,
    settings: SettingsGiven,
    wake: Wake,
) -> Job:
    """Import a run that others sampled and scored: a job like any other, but for the answers, which are not there.

    Its questions must have been uploaded as a data set before. `premem import-recorded` does both.
    """
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > settings.max_result_bytes:
            raise TooLarge(f"the recorded run is longer than {settings.max_result_bytes:,} bytes")
    reply = await run_in_threadpool(_take, database, store, bytes(content))
    wake()
    response.headers["Location"] = f"/v1/jobs/{reply.id}"
    response.headers["Retry-After"] = "1"
    return reply


def _take(database: Database, store: Store, content: bytes) -> Job:
    recording = decode(content)
    about = recording.about
    named = [Checkpoint(path=f"recorded:{one.name}"[:4096], name=one.name) for one in about.checkpoints]
    request = JobRequest(
        trajectory="everything",
        dataset=about.dataset,
        checkpoints=named,
        name=about.name,
        sampling=Sampling(samples=about.samples),
        template=about.template,
        grader=about.grader,
        memorized_below=about.memorized_below,
        calibration=about.calibration,
        task=about.task,
        learning_rate=about.learning_rate,
    )
    artifact = f"{PREFIX}{uuid4().hex}.parquet"
    store.put(artifact, content)
    try:
        with database.begin() as connection:
            at = now(connection)
            job = insert_job(connection, request, span=about.span, state="finalizing", recorded=artifact, started_at=at)
            _check_rows(recording, connection.scalar(select(datasets.c.rows).where(datasets.c.id == about.dataset)))
            connection.execute(
                insert(checkpoints),
                [
                    {"job": job.id, "position": position, "name": one.name, "path": one.path}
                    for position, one in enumerate(named)
                ],
            )
            return job_reply(connection, job.id)
    except InputError:
        store.delete([artifact])
        raise


def _check_rows(recording: Recording, rows: int | None) -> None:
    last = int(recording.row_E[-1])
    if rows is None or last >= rows:
        raise FieldError("dataset", f"it has {rows or 0:,} rows, and the recorded run names row {last:,}")
