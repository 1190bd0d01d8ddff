"""All routes of a service together, and where the service is."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import httpx

from premem.client.routes.calibrations import CalibrationRoutes
from premem.client.routes.curation import CurationRoutes
from premem.client.routes.datasets import DatasetRoutes
from premem.client.routes.examples import ExampleRoutes
from premem.client.routes.exports import ExportRoutes
from premem.client.routes.jobs import JobRoutes
from premem.client.routes.tags import TagRoutes
from premem.client.transport import Service
from premem.errors import InputError

DEFAULT_SERVICE = "http://127.0.0.1:8321"


class Routes(DatasetRoutes, JobRoutes, ExampleRoutes, CurationRoutes, ExportRoutes, CalibrationRoutes, TagRoutes):
    """Every route of a service, written once; Client and AsyncClient are what people use."""

    def __init__(self, base_url: str | None, attempts: int) -> None:
        self.base_url = (base_url or os.environ.get("PREMEM_SERVICE") or DEFAULT_SERVICE).rstrip("/")
        if not self.base_url.startswith(("http://", "https://")):
            raise InputError(f"{self.base_url!r} is no URL of a service: it must start with http:// or https://")
        try:
            _ = urlsplit(self.base_url).hostname
            httpx.URL(self.base_url)
        except (ValueError, httpx.InvalidURL) as error:
            raise InputError(f"{self.base_url!r} is no URL of a service: {error}") from None
        self._service = Service(self.base_url, max(1, attempts))
