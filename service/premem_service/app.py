"""The application: its parts, put together."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from premem.wire.bodies import Problem
from premem.wire.compatibility import VERSION
from premem_service.curation import acquisitions, curated, lineages, overlaps, selections, weights
from premem_service.curation import seed_requests as seeds
from premem_service.datasets import previews, tags
from premem_service.datasets import routes as datasets
from premem_service.housekeeping import Rounds
from premem_service.http import health, metrics, problems
from premem_service.http.auth import Authentication, TrustedHost, any_key
from premem_service.http.dependencies import refuse_unknown_parameters
from premem_service.http.idempotency import Idempotency
from premem_service.http.limits import BodyLimit
from premem_service.http.metrics import Metrics, RequestTimes
from premem_service.jobs import checkpoints, events, recorded, regrades, resamples
from premem_service.jobs import routes as jobs
from premem_service.logs import RequestLog
from premem_service.queue import results, tasks, workers
from premem_service.reports import calibrations, so_far
from premem_service.reports import routes as reports
from premem_service.scores import examples, matrix
from premem_service.scores.filters import Filtered
from premem_service.scores.score_files import ScoreFiles
from premem_service.settings import Settings
from premem_service.storage.db import Database, DatabaseError
from premem_service.storage.store import Store
from premem_service.web import pages

DESCRIPTION = """Find the training examples that your model could not solve before it memorized them.

Upload a data set, post a job that names the checkpoints of a run, poll it, and read the ranked examples or the curated
subset. Errors are problems (RFC 9457). Every POST takes an `Idempotency-Key`.
"""
BY_ALL = problems.described(400, 401, 422, 500, 503)

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Sent again with the same key, the request gets the first answer and happens once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}

_bearer = HTTPBearer(auto_error=False, description="A key `pmk_<id>_<secret>`, where the service has keys.")


def create_app(settings: Settings) -> FastAPI:
    """The service over its database and store, migrated when it starts. Raises DatabaseError, StoreError."""
    database = Database(settings.database)
    store = Store(settings.store, temporary=settings.data_dir / "temporary")
    app = FastAPI(
        title="premem",
        version=VERSION,
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.state.database = database
    app.state.store = store
    app.state.metrics = Metrics(database)
    app.state.rounds = Rounds(database, store, settings, app.state.metrics)
    app.state.score_files = ScoreFiles(store)
    app.state.filtered = Filtered()
    app.state.ending = threading.Event()  # streams without an end of their own end with it
    problems.add_handlers(app)
    of_jobs = (jobs, recorded, regrades, resamples, checkpoints, events, examples, matrix, reports, so_far)
    of_choices = (selections, overlaps, curated, lineages, weights, seeds, acquisitions)
    for nouns in (datasets, previews, tags, *of_jobs, *of_choices, calibrations, tasks, results, workers):
        app.include_router(
            nouns.router, dependencies=[Depends(_bearer), Depends(refuse_unknown_parameters)], responses=BY_ALL
        )
    for nouns in (health, metrics, pages):
        app.include_router(nouns.router)
    # The last one added is the first to see a request.
    app.add_middleware(Idempotency, database=database, kept_seconds=settings.idempotency_seconds)
    app.add_middleware(Authentication, database=database, settings=settings)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(TrustedHost, hosts=settings.hosts)
    app.add_middleware(problems.Translation)
    app.add_middleware(RequestTimes, metrics=app.state.metrics)
    app.add_middleware(RequestLog)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    database: Database = app.state.database
    await run_in_threadpool(prepare, database, app.state.settings)
    app.state.rounds.start()
    try:
        yield
    finally:
        app.state.ending.set()
        await run_in_threadpool(app.state.rounds.stop)
        database.close()


def prepare(database: Database, settings: Settings) -> None:
    """Migrate, and make sure that nobody listens to the world without a key. Raises DatabaseError."""
    database.migrate()
    if settings.loopback or settings.api_key is not None:
        return
    with database.connect() as connection:
        if not any_key(connection):
            raise DatabaseError(
                f"{settings.host} can be reached from other machines, and there is no key: set PREMEM_API_KEY, or make "
                "one with `python -m premem_service keys add NAME`; without a key premem listens on 127.0.0.1 only"
            )


def _describe_middleware(operation: dict[str, Any], method: str) -> None:
    """What FastAPI does not see."""
    operation["responses"].update({str(status): answer for status, answer in problems.described(413).items()})
    if method == "post":
        operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
        operation["responses"].update({str(status): answer for status, answer in problems.described(409).items()})


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            license_info=app.license_info,
            routes=app.routes,
        )
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                if path.startswith("/v1/") and method in ("post", "put"):
                    _describe_middleware(operation, method)
        parts = schema.setdefault("components", {}).setdefault("schemas", {})
        parts["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        app.openapi_schema = schema
    return app.openapi_schema
