"""Whether this process lives, and whether it can work."""

from __future__ import annotations

import structlog
from fastapi import APIRouter, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from premem.wire.bodies import Reply
from premem_service.http.dependencies import DatabaseGiven, StoreGiven
from premem_service.http.problems import ProblemResponse, described
from premem_service.storage.store import StoreError

router = APIRouter(tags=["operation"])

log = structlog.get_logger(__name__)


class Health(Reply):
    status: str = "ok"


@router.get("/healthz")
def healthz() -> Health:
    """The process answers."""
    return Health()


@router.get("/readyz", response_model=Health, responses=described(503))
def readyz(request: Request, database: DatabaseGiven, store: StoreGiven) -> Health | Response:
    """Database and store answer, and the tables are those that this service knows."""
    missing = []
    try:
        if not database.is_current():
            missing.append("the database is at another revision than this service")
    except SQLAlchemyError as error:
        log.warning("not ready", error=str(error))
        missing.append("the database does not answer")
    try:
        store.check()
    except StoreError as error:
        missing.append(str(error))
    if missing:
        return ProblemResponse(
            503, "not-ready", "; ".join(missing), instance=request.url.path, headers={"Retry-After": "2"}
        )
    return Health()
