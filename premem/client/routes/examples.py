"""The results of a job: its ranked examples, and its report."""

from __future__ import annotations

from typing import Unpack

from premem.client.routes.shared import RouteGroup, path_of
from premem.client.transport import Item, Listing, Params, Steps, endpoint, paginated
from premem.forecasting.rules import RuleName
from premem.payloads.matrix import ScoreMatrix
from premem.wire.examples import ExampleDetail, ExamplePage, ExampleQuery, ScoredExample, query_parameters
from premem.wire.reports import JobReport, SoFar


class ExampleRoutes(RouteGroup):
    """Part of Client and AsyncClient."""

    @endpoint
    def examples(
        self, job: str, *, limit: int | None = None, cursor: str | None = None, **query: Unpack[ExampleQuery]
    ) -> Steps[ExamplePage]:
        """Get one page of a job's scored examples, the lowest pre-memorization accuracy first.

        Args:
            job: Its id.
            limit: Examples per page. Absent: the service's default.
            cursor: `next_cursor` of the page before. Absent: the first page.
            query: Filters and order; `premem.wire.examples.ExampleQuery` describes each.

        Returns:
            The page; `to_polars()` and `to_pandas()` make a data frame of it.

        Raises:
            NotFound: There is no such job.
            Conflict: The job is not completed.
        """
        params: Params = {"limit": limit, "cursor": cursor, **query_parameters(query)}
        return (yield from self._request(ExamplePage, "GET", path_of("jobs", job, "examples"), params=params))

    @paginated
    def iter_examples(
        self, job: str, *, page_size: int | None = None, **query: Unpack[ExampleQuery]
    ) -> Listing[ScoredExample]:
        """Go through all scored examples of a job, or those that match; pages are requested as they are read.

        Args:
            job: Its id.
            page_size: Examples per request. Absent: the service's default.
            query: Filters and order; `premem.wire.examples.ExampleQuery` describes each.

        Raises:
            NotFound: There is no such job.
            Conflict: The job is not completed.
        """
        cursor: str | None = None
        while True:
            page = yield from ExampleRoutes.examples.steps(self, job, limit=page_size, cursor=cursor, **query)
            yield from map(Item, page.items)
            if not (cursor := page.next_cursor):
                return

    @endpoint
    def example(self, job: str, row: int) -> Steps[ExampleDetail]:
        """Get one example with its uploaded row and every sampled answer.

        Args:
            job: Id of the job.
            row: Position of the example in the data set, from 0.

        Raises:
            NotFound: There is no such job, or it did not score this row.
            Conflict: The job is not completed.
        """
        return (yield from self._request(ExampleDetail, "GET", path_of("jobs", job, "examples", row)))

    @endpoint
    def matrix(self, job: str) -> Steps[ScoreMatrix]:
        """Get every accuracy and perplexity of a job as arrays.

        Args:
            job: Its id.

        Returns:
            Arrays of checkpoints × examples, the examples in the order of the ranking.

        Raises:
            NotFound: There is no such job.
            Conflict: The job is not completed.
        """
        return ScoreMatrix.decode((yield from self._service.request("GET", path_of("jobs", job, "matrix"))).content)

    @endpoint
    def report(self, job: str, *, calibration: str | None = None, rule: RuleName | None = None) -> Steps[JobReport]:
        """Get a job's report: per checkpoint the accuracies, the share memorized, and the forecast where there is one.

        Args:
            job: Its id.
            calibration: Name or id of a calibration; the report is computed anew under its threshold, and not stored.
            rule: What is averaged over the examples. Absent: the rule of the job or the calibration.

        Raises:
            NotFound: There is no such job or calibration.
            Conflict: The job is not completed.
        """
        params: Params = {"calibration": calibration, "rule": rule}
        return (yield from self._request(JobReport, "GET", path_of("jobs", job, "report"), params=params))

    @endpoint
    def so_far(self, job: str) -> Steps[SoFar]:
        """Get the report's table for the checkpoints that are completely scored, while the job goes on.

        Args:
            job: Its id.

        Raises:
            NotFound: There is no such job.
        """
        return (yield from self._request(SoFar, "GET", path_of("jobs", job, "so-far")))
