"""The two clients: `with Client() as client: job = client.create_job(…)`. Their methods are in routes/, by noun."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

import premem.output.display  # makes jobs, reports, selections and pages print well  # noqa: F401
from premem.client.routes.all import Routes
from premem.client.scoring import AsyncScoring, CheckpointLike, Data, Scoring, start_scoring
from premem.client.transport import Async, Sync
from premem.errors import InputError
from premem.wire.compatibility import user_agent

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Client(Routes, Sync):
    """A client of one premem service. Safe to use from several threads; close it, or use it as a context manager.

    `with Client() as client: job = client.job("job_…")`

    A request whose response is lost, or is 429, 502, 503 or 504, is made up to `attempts` times; a POST carries an
    Idempotency-Key, so that it takes effect once. What every method raises: Unreachable where nobody answers; NotFound,
    Conflict, InputError or RowsError for what the service says is wrong with the request; ServiceError for every other
    response that is no success.

    Args:
        base_url: Address of the service. Absent: PREMEM_SERVICE of the environment, or http://127.0.0.1:8321.
        api_key: Absent: PREMEM_API_KEY of the environment.
        timeout: Seconds that one response may take.
        attempts: How often a request is made at most.

    Raises:
        InputError: The address or the key cannot be one.
    """

    def __init__(
        self, base_url: str | None = None, api_key: str | None = None, *, timeout: float = 60.0, attempts: int = 4
    ) -> None:
        super().__init__(base_url, attempts)
        self._http = httpx.Client(**_settings(self.base_url, api_key, timeout))

    def score(
        self,
        data: Data,
        checkpoints: Sequence[CheckpointLike],
        *,
        test: Data | None = None,
        upload: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Scoring:
        """Upload data where it is not uploaded yet, and start a job that scores it at the checkpoints of a run.

        `client.score("train.jsonl", paths).wait(progress=True)`

        Args:
            data: What `upload` takes, or an uploaded data set or its id.
            checkpoints: Paths or hub ids, put into the order of their step numbers; or `Checkpoint`s, taken as they are
                ordered.
            test: A data set that was not trained on, to be answered at every checkpoint; as `data`.
            upload: Arguments of `upload`, such as `{"grader": "math"}`.
            settings: Fields of JobRequest, such as `memorized_below=1.1055`.

        Returns:
            The started job as an object that waits for it and gets its results.

        Raises:
            InputError: The settings or checkpoints do not fit together; then nothing was sent.
            RowsError: Rows of the data are malformed.
        """
        steps = start_scoring(self, data, checkpoints, test=test, upload=upload or {}, settings=settings)
        return Scoring(self, self._http, self._run(steps))

    def close(self) -> None:
        """Close the connections to the service."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(Routes, Async):
    """A client of one premem service for asyncio: the methods of Client as coroutines, lists as async iterators.

    `async with AsyncClient() as client: job = await client.job("job_…")`

    Files are read and written in threads. Arguments, retries and errors are those of Client.
    """

    def __init__(
        self, base_url: str | None = None, api_key: str | None = None, *, timeout: float = 60.0, attempts: int = 4
    ) -> None:
        super().__init__(base_url, attempts)
        self._http = httpx.AsyncClient(**_settings(self.base_url, api_key, timeout))

    async def score(
        self,
        data: Data,
        checkpoints: Sequence[CheckpointLike],
        *,
        test: Data | None = None,
        upload: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> AsyncScoring:
        """Upload data where it is not uploaded yet, and start a job; as Client.score, with the same arguments and errors.

        `scoring = await client.score("train.jsonl", paths)`, then `await scoring.wait(progress=True)`.
        """
        steps = start_scoring(self, data, checkpoints, test=test, upload=upload or {}, settings=settings)
        return AsyncScoring(self, self._http, await self._run(steps))

    async def close(self) -> None:
        """Close the connections to the service."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _settings(base_url: str, api_key: str | None, timeout: float) -> dict[str, Any]:
    """Arguments of httpx.Client and httpx.AsyncClient."""
    headers = {"User-Agent": user_agent("client")}
    if api_key := (api_key or os.environ.get("PREMEM_API_KEY", "")).strip():
        if not (api_key.isascii() and api_key.isprintable()):
            raise InputError("the API key holds characters that no key has: it looks like pmk_<id>_<secret>")
        headers["Authorization"] = f"Bearer {api_key}"
    return {
        "headers": headers,
        "timeout": httpx.Timeout(timeout, connect=min(10.0, timeout)),
        # Proxies of the environment do not lead to this machine.
        "trust_env": urlsplit(base_url).hostname not in LOOPBACK,
    }
