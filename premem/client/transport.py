"""How the clients talk to a service: each request and its retries are written once, as steps that both clients carry out.

A method of a client is written as a generator. It yields what to do (Send, Download, Pause, Work), receives the outcome,
and returns its result. `endpoint` turns it into a method that returns the result on a `Sync` and a coroutine on an `Async`;
`paginated`, for generators that also yield `Item`s, into a method that returns an iterator or an async iterator.
"""

from __future__ import annotations

import asyncio
import inspect
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import IO, Any, Concatenate, Generic, ParamSpec, TypeVar, get_args, get_origin, get_type_hints, overload

import httpx

from premem.client.replies import PASSING, is_under_way, pause_before_retry, raise_for_problem, unreachable
from premem.client.signatures import describe
from premem.client.upload import Upload
from premem.errors import Unreachable

Params = Mapping[str, str | float | Sequence[int] | None]
UNDER_WAY_SECONDS = 120.0
"""Longer than the 60 after which the service gives up a first attempt that died with it."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """One request; the outcome is its response."""

    method: str
    url: str
    params: Mapping[str, str | float | Sequence[int]]
    headers: Mapping[str, str]
    body: object = None
    upload: Upload | None = None
    timeout: httpx.Timeout | None = None


@dataclass(frozen=True, slots=True)
class Download:
    """One GET whose body is written to `out`; the outcome is its response, without the body where it succeeded."""

    url: str
    params: Mapping[str, str | float | Sequence[int]]
    out: IO[bytes]


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Something slow on this machine, such as writing files; the outcome is what it returns."""

    do: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """One entry of a list."""

    value: T


Step = Send | Download | Pause | Work
Steps = Generator[Step, Any, T]
Listing = Generator[Step | Item[T], Any, None]


# Carrying the steps out


class Sync:
    """Carries steps out in the thread of the caller."""

    _http: httpx.Client

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, method in _declared(cls):
            setattr(cls, name, method.function(cls))

    def _run(self, steps: Steps[T]) -> T:
        answer: Any = None
        with closing(steps):  # a half-written file is removed now, whatever interrupts this
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

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, method in _declared(cls):
            setattr(cls, name, method.coroutine_function(cls))

    async def _run(self, steps: Steps[T]) -> T:
        answer: Any = None
        with closing(steps):  # a half-written file is removed now, whatever interrupts this
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


class Endpoint(Generic[P, T]):
    """A request that is written once: a method that returns its result on a Sync, and a coroutine method on an Async."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        self.steps = steps
        """Takes the client first; other methods go through it with `yield from`."""
        self.__doc__ = steps.__doc__

    @overload
    def __get__(self, client: None, owner: type[Sync]) -> Callable[Concatenate[Any, P], T]: ...
    @overload
    def __get__(self, client: None, owner: type[Async]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: None, owner: type) -> Endpoint[P, T]: ...
    @overload
    def __get__(self, client: Sync, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: Async, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: object, owner: type) -> Any:
        return self  # only of a class that is no Sync and no Async: those have functions in its place

    def function(self, owner: type[Sync]) -> Callable[..., T]:
        steps = self.steps

        def method(client: Sync, *args: P.args, **kwargs: P.kwargs) -> T:
            return client._run(steps(client, *args, **kwargs))

        return describe(method, steps, owner, result=_result_type(steps))

    def coroutine_function(self, owner: type[Async]) -> Callable[..., Coroutine[Any, Any, T]]:
        steps = self.steps

        async def method(client: Async, *args: P.args, **kwargs: P.kwargs) -> T:
            return await client._run(steps(client, *args, **kwargs))

        return describe(method, steps, owner, result=_result_type(steps))


class Paginated(Generic[P, T]):
    """A list that is read page by page: a method that returns an iterator on a Sync, and an async iterator on an Async."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Listing[T]]) -> None:
        self.steps = steps
        self.__doc__ = steps.__doc__

    @overload
    def __get__(self, client: None, owner: type[Sync]) -> Callable[Concatenate[Any, P], Iterator[T]]: ...
    @overload
    def __get__(self, client: None, owner: type[Async]) -> Callable[Concatenate[Any, P], AsyncIterator[T]]: ...
    @overload
    def __get__(self, client: None, owner: type) -> Paginated[P, T]: ...
    @overload
    def __get__(self, client: Sync, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: Async, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, client: object, owner: type) -> Any:
        return self

    def function(self, owner: type[Sync]) -> Callable[..., Iterator[T]]:
        steps = self.steps

        def method(client: Sync, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
            return client._each(steps(client, *args, **kwargs))

        return describe(method, steps, owner, result=Iterator[_item_type(steps)])  # type: ignore[misc]

    def coroutine_function(self, owner: type[Async]) -> Callable[..., AsyncIterator[T]]:
        steps = self.steps

        def method(client: Async, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
            return client._each(steps(client, *args, **kwargs))

        return describe(method, steps, owner, result=AsyncIterator[_item_type(steps)])  # type: ignore[misc]


def _declared(owner: type) -> list[tuple[str, Any]]:
    """Each Endpoint and Paginated that a class inherits, with its name."""
    found = ((name, inspect.getattr_static(owner, name)) for name in dir(owner))
    return [(name, value) for name, value in found if isinstance(value, Endpoint | Paginated)]


def _result_type(steps: Callable[..., Steps[Any]]) -> Any:
    """The T of `Steps[T]`, as the generator is annotated."""
    return get_args(get_type_hints(steps)["return"])[2]


def _item_type(steps: Callable[..., Listing[Any]]) -> Any:
    """The T of `Listing[T]`, as the generator is annotated."""
    yielded = get_args(get_type_hints(steps)["return"])[0]
    [item] = [one for one in get_args(yielded) if get_origin(one) is Item]
    return get_args(item)[0]


def endpoint(steps: Callable[Concatenate[Any, P], Steps[T]]) -> Endpoint[P, T]:
    """Decorates a generator that makes requests and returns a result."""
    return Endpoint(steps)


def paginated(steps: Callable[Concatenate[Any, P], Listing[T]]) -> Paginated[P, T]:
    """Decorates a generator that makes requests and yields an `Item` for each thing that is listed."""
    return Paginated(steps)


# One request, until it is answered


@dataclass(frozen=True, slots=True)
class Service:
    """A service by its address, and how often a request to it is made while the answer is lost."""

    base_url: str
    attempts: int

    def request(
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
        """The successful response. Raises what the service says is wrong, or Unreachable."""
        headers = {"Accept": "application/json"}
        if method == "POST":
            headers["Idempotency-Key"] = idempotency_key or uuid.uuid4().hex
        if upload:
            headers["Content-Type"] = upload.content_type
        send = Send(method, self.base_url + path, _without_none(params), headers, body, upload, timeout)
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
                    return raise_for_problem(response)
                pause = pause_before_retry(attempt, response)
            yield Pause(pause)
            attempt += 1

    def download(self, path: str, params: Params, out: IO[bytes]) -> Steps[int]:
        """One attempt. Returns the number of rows, as the service names it."""
        try:
            response: httpx.Response = yield Download(self.base_url + path, _without_none(params), out)
        except httpx.RequestError as error:
            raise unreachable(self.base_url, error) from error
        return int(raise_for_problem(response).headers.get("X-Premem-Rows", 0))


def is_passing(error: Exception) -> bool:
    """Whether trying again a moment later may help."""
    return isinstance(error, Unreachable) or getattr(error, "status", None) in PASSING


def _without_none(params: Params | None) -> dict[str, str | float | Sequence[int]]:
    return {name: value for name, value in (params or {}).items() if value is not None}
