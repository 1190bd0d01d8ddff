"""How the clients ask: each request and its retries written once, in steps that either client carries out.

A method of a client is a generator. It yields what is to be done (Send, Download, Pause, Work), is sent what came of it, and
returns its result. `asked` makes of it a method that returns the result on a `Sync` and a coroutine on an `Async`;
`listed`, for generators that also yield `Item`s, an iterator or an async one.
"""

from __future__ import annotations

import asyncio
import functools
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import IO, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import httpx

from premem.client.replies import PASSING, checked, is_under_way, pause_before_retry, unreachable
from premem.client.upload import Upload
from premem.errors import Unreachable

Params = Mapping[str, str | float | Sequence[int] | None]
UNDER_WAY_SECONDS = 120.0
"""The service gives up a first attempt that died with it after 60."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """One request; the answer is its response."""

    method: str
    url: str
    params: Mapping[str, str | float | Sequence[int]]
    headers: Mapping[str, str]
    body: object = None
    upload: Upload | None = None
    timeout: httpx.Timeout | None = None


@dataclass(frozen=True, slots=True)
class Download:
    """One GET whose body is written to `out`; the answer is its response, without the body where it succeeded."""

    url: str
    params: Mapping[str, str | float | Sequence[int]]
    out: IO[bytes]


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Something slow on this machine, such as its files; the answer is what it returns."""

    do: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """One of the things that are listed."""

    value: T


Step = Send | Download | Pause | Work
Steps = Generator[Step, Any, T]
Listing = Generator[Step | Item[T], Any, None]


# Carrying the steps out


class Sync:
    """Carries steps out in the thread of the caller."""

    _http: httpx.Client

    def _run(self, steps: Steps[T]) -> T:
        answer: Any = None
        with closing(steps):  # what is half-written goes now, whatever comes between
            while True:
                try:
                    step = steps.throw(answer) if isinstance(answer, httpx.RequestError) else steps.send(answer)
                except StopIteration as end:
                    result: T = end.value
                    return result
                answer = self._carry_out(step)

    def _each(self, steps: Listing[T]) -> Iterator[T]:
        answer: Any = None
        while True:
            try:
                step = steps.throw(answer) if isinstance(answer, httpx.RequestError) else steps.send(answer)
            except StopIteration:
                return
            if isinstance(step, Item):
                yield step.value
                answer = None
            else:
                answer = self._carry_out(step)

    def _carry_out(self, step: Step) -> Any:
        try:
            match step:
                case Pause(seconds):
                    time.sleep(seconds)
                    return None
                case Work(do):
                    return do()
                case Send():
                    content = step.upload.blocks() if step.upload else None
                    return self._http.request(**_request(self._http, step), content=content)
                case Download(url, params, out):
                    with self._http.stream("GET", url, params=params) as response:
                        if not response.is_success:
                            response.read()
                        else:
                            for block in response.iter_bytes():
                                out.write(block)
                        return response
        except httpx.RequestError as error:
            return error


class Async:
    """Carries steps out in the event loop of the caller; files are read and written in threads."""

    _http: httpx.AsyncClient

    async def _run(self, steps: Steps[T]) -> T:
        answer: Any = None
        with closing(steps):  # what is half-written goes now, whatever comes between
            while True:
                try:
                    step = steps.throw(answer) if isinstance(answer, httpx.RequestError) else steps.send(answer)
                except StopIteration as end:
                    result: T = end.value
                    return result
                answer = await self._carry_out(step)

    async def _each(self, steps: Listing[T]) -> AsyncIterator[T]:
        answer: Any = None
        while True:
            try:
                step = steps.throw(answer) if isinstance(answer, httpx.RequestError) else steps.send(answer)
            except StopIteration:
                return
            if isinstance(step, Item):
                yield step.value
                answer = None
            else:
                answer = await self._carry_out(step)

    async def _carry_out(self, step: Step) -> Any:
        try:
            match step:
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                    return None
                case Work(do):
                    return await asyncio.to_thread(do)
                case Send():
                    content = _in_threads(step.upload.blocks()) if step.upload else None
                    return await self._http.request(**_request(self._http, step), content=content)
                case Download(url, params, out):
                    async with self._http.stream("GET", url, params=params) as response:
                        if not response.is_success:
                            await response.aread()
                        else:
                            async for block in response.aiter_bytes():
                                await asyncio.to_thread(out.write, block)
                        return response
        except httpx.RequestError as error:
            return error


async def _in_threads(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (block := await asyncio.to_thread(next, blocks, None)) is not None:
        yield block


def _request(http: httpx.Client | httpx.AsyncClient, step: Send) -> dict[str, Any]:
    return {
        "method": step.method,
        "url": step.url,
        "params": step.params,
        "headers": step.headers,
        "json": step.body,
        "timeout": step.timeout or http.timeout,
    }


# Methods


class Asked(Generic[P, T]):
    """A method that returns a result on a Sync, and a coroutine on an Async."""

    def __init__(self, method: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        self.steps = method
        """Takes the client first; to be gone through by other methods (`yield from`)."""
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Asked[P, T]: ...
    @overload
    def __get__(self, client: Sync, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: Async, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Sync | Async | None, owner: type) -> Any:
        if client is None:
            return self

        @functools.wraps(self.steps)
        def ask(*args: P.args, **kwargs: P.kwargs) -> T | Awaitable[T]:
            return client._run(self.steps(client, *args, **kwargs))

        return ask


class Listed(Generic[P, T]):
    """A method that returns an iterator on a Sync, and an async one on an Async."""

    def __init__(self, method: Callable[Concatenate[Any, P], Listing[T]]) -> None:
        self.steps = method
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Listed[P, T]: ...
    @overload
    def __get__(self, client: Sync, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: Async, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, client: Sync | Async | None, owner: type) -> Any:
        if client is None:
            return self

        @functools.wraps(self.steps)
        def ask(*args: P.args, **kwargs: P.kwargs) -> Iterator[T] | AsyncIterator[T]:
            return client._each(self.steps(client, *args, **kwargs))

        return ask


def asked(method: Callable[Concatenate[Any, P], Steps[T]]) -> Asked[P, T]:
    return Asked(method)


def listed(method: Callable[Concatenate[Any, P], Listing[T]]) -> Listed[P, T]:
    return Listed(method)


# One request, until it is answered


@dataclass(frozen=True, slots=True)
class Asking:
    """Where to, and how often where the answer is lost."""

    base_url: str
    attempts: int

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: object = None,
        upload: Upload | None = None,
        timeout: httpx.Timeout | None = None,
        idempotency_key: str | None = None,
    ) -> Steps[httpx.Response]:
        """A successful answer, or its problem raised."""
        headers = {"Accept": "application/json"}
        if method == "POST":
            headers["Idempotency-Key"] = idempotency_key or uuid.uuid4().hex
        if upload:
            headers["Content-Type"] = upload.content_type
        send = Send(method, self.base_url + path, given(params), headers, body, upload, timeout)
        patience_ends = time.monotonic() + UNDER_WAY_SECONDS
        attempt = 1
        while True:
            may_retry = attempt < self.attempts
            try:
                response: httpx.Response = yield send
            except httpx.RequestError as error:
                if not may_retry or (upload and upload.spent):
                    raise unreachable(self.base_url, error) from error
                pause = pause_before_retry(attempt)
            else:
                if is_under_way(response) and time.monotonic() < patience_ends:
                    yield Pause(pause_before_retry(1, response))
                    continue
                if response.status_code not in PASSING or not may_retry or (upload and upload.spent):
                    if method == "DELETE" and attempt > 1 and response.status_code == 404:
                        return response  # an earlier attempt took effect, and its answer was lost
                    return checked(response)
                pause = pause_before_retry(attempt, response)
            yield Pause(pause)
            attempt += 1

    def download(self, path: str, params: Params, out: IO[bytes]) -> Steps[int]:
        """One attempt. Returns the number of rows that the service says it sends."""
        try:
            response: httpx.Response = yield Download(self.base_url + path, given(params), out)
        except httpx.RequestError as error:
            raise unreachable(self.base_url, error) from error
        return int(checked(response).headers.get("X-Premem-Rows", 0))


def is_passing(error: Exception) -> bool:
    """Whether a moment's patience may mend it."""
    return isinstance(error, Unreachable) or getattr(error, "status", None) in PASSING


def given(params: Params | None) -> dict[str, str | float | Sequence[int]]:
    return {name: value for name, value in (params or {}).items() if value is not None}
