"""Calibrations: thresholds that were learned from completed jobs."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from premem.client.routes.shared import RouteGroup, path_of
from premem.client.transport import Listing, Steps, endpoint, paginated
from premem.forecasting.rules import RuleName
from premem.wire.calibrations import CalibrationReply, CalibrationRequest

CALIBRATION_SECONDS = 3600.0
"""Many runs of a million examples each take long."""


class CalibrationRoutes(RouteGroup):
    """Part of Client and AsyncClient."""

    @endpoint
    def calibrate(
        self, name: str, jobs: Sequence[str], *, rule: RuleName = "paper", memorized_below: float | None = None
    ) -> Steps[CalibrationReply]:
        """Learn the perplexity below which an example counts as memorized, from completed jobs, and store it.

        It takes seconds to minutes.

        Args:
            name: What the calibration is called from now on.
            jobs: Ids of at least two completed jobs, each with a test set, that differ in learning rate.
            rule: What is averaged over the examples.
            memorized_below: Perplexity, to learn how well it does. Absent: the one that explains the jobs best.

        Raises:
            InputError: The jobs cannot be calibrated together.
            NotFound: One of the jobs does not exist.
            Conflict: One of the jobs is not completed, or the name is taken.
        """
        request = CalibrationRequest(name=name, jobs=list(jobs), rule=rule, memorized_below=memorized_below)
        timeout = httpx.Timeout(CALIBRATION_SECONDS, connect=10.0)
        body = request.model_dump(mode="json")
        return (yield from self._request(CalibrationReply, "POST", "/v1/calibrations", body=body, timeout=timeout))

    @paginated
    def calibrations(self) -> Listing[CalibrationReply]:
        """List all calibrations, newest first; pages are requested as they are read."""
        return self._pages("/v1/calibrations", CalibrationReply)

    @endpoint
    def calibration(self, name: str) -> Steps[CalibrationReply]:
        """Get one calibration.

        Args:
            name: Its name or id.

        Raises:
            NotFound: There is no such calibration.
        """
        return (yield from self._request(CalibrationReply, "GET", path_of("calibrations", name)))

    @endpoint
    def delete_calibration(self, name: str) -> Steps[None]:
        """Delete a calibration.

        Args:
            name: Its name or id.

        Raises:
            NotFound: There is no such calibration.
            Conflict: A job that has not ended uses it.
        """
        yield from self._service.request("DELETE", path_of("calibrations", name))
