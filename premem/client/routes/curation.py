"""Which examples a policy chooses, and how to get new ones like them."""

from __future__ import annotations

from typing import Unpack

from premem.client.replies import parse
from premem.client.routes.shared import RouteGroup, Target, as_query, path_of
from premem.client.transport import Params, Steps, endpoint
from premem.wire.curation import AcquireRequest, Acquisition, Choice, Overlap, Selection
from premem.wire.jobs import Job


class CurationRoutes(RouteGroup):
    """Part of Client and AsyncClient."""

    @endpoint
    def selection(self, job: str, *, limit: int | None = None, **choice: Unpack[Choice]) -> Steps[Selection]:
        """Get the examples that a policy chooses, what they have in common, and a random control of the same size.

        Args:
            job: Id of a completed job.
            limit: How many of the chosen and of the control are listed. Absent: 10,000.
            choice: The policy and its bounds; `premem.wire.curation.Choice` describes each.

        Raises:
            NotFound: There is no such job.
            Conflict: The job is not completed.
        """
        params: Params = {"limit": limit, **as_query(choice)}
        return (yield from self._request(Selection, "GET", path_of("jobs", job, "selection"), params=params))

    @endpoint
    def overlap(self, job: str, one: Choice, other: Choice, *, limit: int | None = None) -> Steps[Overlap]:
        """Compare two policies: how many examples both choose, and how many only one of them.

        Args:
            job: Id of a completed job.
            one: The first policy with its bounds, such as `{"policy": "lowest", "budget": 100}`.
            other: The second policy with its bounds.
            limit: How many examples of each part are listed. Absent: 10.

        Raises:
            NotFound: There is no such job.
            Conflict: The job is not completed.
        """
        second = {f"other_{name}": value for name, value in as_query(other).items()}
        params: Params = {"limit": limit, **as_query(one), **second}
        return (yield from self._request(Overlap, "GET", path_of("jobs", job, "overlap"), params=params))

    @endpoint
    def seeds(
        self,
        job: str,
        target: Target,
        *,
        model: str,
        requests: int = 100,
        instruction: str | None = None,
        **choice: Unpack[Choice],
    ) -> Steps[int]:
        """Write requests for new examples like the chosen ones, as JSONL for an OpenAI-compatible batch endpoint.

        Args:
            job: Id of a completed job.
            target: Path or binary stream to write to; a path is written whole or not at all.
            model: Name of the model that the requests are for.
            requests: How many requests.
            instruction: What the model is told. Absent: the service's own words.
            choice: The policy and its bounds; `premem.wire.curation.Choice` describes each.

        Returns:
            The number of requests that were written.

        Raises:
            NotFound: There is no such job.
            Conflict: The job is not completed.
        """
        params = {**as_query(choice), "model": model, "requests": requests, "instruction": instruction}
        return (yield from self._write(path_of("jobs", job, "seeds"), params, target))

    @endpoint
    def acquire(self, job: str, request: AcquireRequest) -> Steps[Acquisition | Job]:
        """Find the candidates in a pool, another data set, that are most like what a policy chooses.

        Args:
            job: Id of a completed job.
            request: The pool, the policy, the budget, and what makes questions alike.

        Returns:
            The candidates; by embedding a job: `wait` for it, then get its `candidates`.

        Raises:
            NotFound: There is no such job or pool.
            Conflict: The job is not completed; by embedding, also where it was imported, without checkpoints.
            InputError: The policy chooses no example to compare with.
        """
        body = request.model_dump(mode="json")
        response = yield from self._service.request("POST", path_of("jobs", job, "acquire"), body=body)
        return parse(Job, response) if response.status_code == 202 else parse(Acquisition, response)

    @endpoint
    def candidates(self, job: str) -> Steps[Acquisition]:
        """Get what a job that acquires by embedding found.

        Args:
            job: Id of the job that `acquire` returned.

        Raises:
            NotFound: There is no such job.
            Conflict: The job is not completed, or does not acquire by embedding.
        """
        return (yield from self._request(Acquisition, "GET", path_of("jobs", job, "candidates")))
