"""Numbers for Prometheus: what this process did, and what the database holds when it is asked."""

from __future__ import annotations

import time
from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from premem_service.storage.db import Database, now
from premem_service.storage.tables import PLAN, jobs, tasks

router = APIRouter(tags=["operation"])


@router.get("/metrics", response_class=Response)
def metrics(request: Request) -> Response:
    """In Prometheus' text format."""
    registry: CollectorRegistry = request.app.state.metrics.registry
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self, database: Database) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Queue(database))
        self.requests = Histogram(
            "premem_request_seconds",
            "Seconds until a request was answered in full.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.leased = self._counter("leased", "Leases handed out.")
        self.completed = self._counter("completed", "Results committed.")
        self.failed = self._counter("failed", "Attempts that reported a failure.")
        self.lost = self._counter("lost", "Tasks ended because too many of their workers were lost.")
        self.task_seconds = Histogram(
            "premem_task_seconds",
            "Seconds from lease to result.",
            buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600),
            registry=self.registry,
        )

    def _counter(self, what: str, help_: str) -> Counter:
        return Counter(f"premem_tasks_{what}", help_, registry=self.registry)


class _Queue(Collector):
    """Read from the database at every scrape: all services that share it say the same."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._database.connect() as connection:
            by_job_state = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state)).all()
            sums = select(tasks.c.state, func.count(), func.sum(tasks.c.losses), func.sum(tasks.c.tokens))
            sums = sums.where(tasks.c.kind != PLAN)  # nobody waits for those
            by_task_state = connection.execute(sums.group_by(tasks.c.state)).all()
            oldest = connection.scalar(select(func.min(jobs.c.created_at)).where(jobs.c.state == "queued"))
            waited = 0.0 if oldest is None else max(0.0, now(connection) - oldest)
        yield _gauge("premem_jobs", "Jobs by state.", ((state, count) for state, count in by_job_state))
        yield _gauge(
            "premem_tasks",
            "Tasks by state; queued is the depth of the queue.",
            ((row[0], row[1]) for row in by_task_state),
        )
        lost = GaugeMetricFamily("premem_lost_leases", "Leases that ran out unheard, of all tasks that there are.")
        lost.add_metric([], float(sum(int(row[2] or 0) for row in by_task_state)))
        yield lost
        tokens = GaugeMetricFamily("premem_tokens", "Tokens scored and sampled, in committed results.")
        tokens.add_metric([], float(sum(int(row[3] or 0) for row in by_task_state)))
        yield tokens
        waiting = GaugeMetricFamily(
            "premem_lease_wait_seconds", "How long the oldest queued job has waited for a worker."
        )
        waiting.add_metric([], waited)
        yield waiting

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: registering must not read a database that is not migrated yet."""
        return iter(())


def _gauge(name: str, help_: str, values: Iterator[tuple[str, int]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_, labels=["state"])
    for state, count in values:
        family.add_metric([state], float(count))
    return family


class RequestTimes:
    """Middleware: seconds by method, route template and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            # Only templates: a label per path would grow without bound.
            route = getattr(scope.get("route"), "path", "unknown")
            seconds = time.perf_counter() - started
            self._metrics.requests.labels(scope["method"], route, str(status)).observe(seconds)
