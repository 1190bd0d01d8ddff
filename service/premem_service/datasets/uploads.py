"""The body of an upload, as it arrives: handed in blocks to a thread that reads it, never gathered in memory."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from premem.errors import InputError, Interrupted, PrememError
from premem_service.http.problems import TooLarge

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

Result = TypeVar("Result")

BLOCK_BYTES = 2**20
BLOCKS_AHEAD = 2
UPLOADS_AT_ONCE = 4
"""Each takes some 50 MB while it is read; further ones wait before their first byte."""
IDLE_SECONDS = 120.0
LONGEST_DRAIN_BYTES = 2**30
FILE_FIELD = "file"

_ENCODINGS = {"", "identity", "gzip", "x-gzip", "zstd"}
_threads = ThreadPoolExecutor(UPLOADS_AT_ONCE, thread_name_prefix="upload")


async def read_upload(request: Request, work: Callable[[Iterator[bytes]], Result], *, max_bytes: int) -> Result:
    """What `work` makes of the upload's blocks, in a thread of its own.

    Where the client goes away, or stops sending, `work` meets an exception in the midst of the blocks, so that it
    can never take a part for the whole. An error of `work` is raised after the rest of the body has been let
    through: a client that is still sending would not hear the answer.
    """
    body = _limited(request, max_bytes)
    try:
        blocks = _in_blocks(_payload(request, body))
        return await _hand_over(blocks, work)
    except PrememError:
        await _drain(body)
        raise


def _payload(request: Request, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        raise InputError(f"the Content-Encoding {encoding!r} is not known: send the rows plain, or as gzip or zstd")
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        return body
    boundary = options.get(b"boundary")
    if not boundary:
        raise InputError("the Content-Type multipart/form-data names no boundary")
    return file_of_form(body, boundary)


async def _limited(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    received = 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise InputError(f"nothing came for {IDLE_SECONDS:.0f} seconds; nothing was kept, send it again") from None
        except ClientDisconnect:
            raise InputError("the connection ended before the upload did; nothing was kept, send it again") from None
        if chunk is None:
            return
        received += len(chunk)
        if received > max_bytes:
            raise TooLarge(f"the upload has more than {max_bytes:,} bytes; send it as several data sets")
        yield chunk


async def _in_blocks(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in fewer pieces: each costs a change of threads."""
    gathered: list[bytes] = []
    size = 0
    async for chunk in chunks:
        gathered.append(chunk)
        size += len(chunk)
        if size >= BLOCK_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


async def _hand_over(blocks: AsyncIterator[bytes], work: Callable[[Iterator[bytes]], Result]) -> Result:
    loop = asyncio.get_running_loop()
    handed: queue.SimpleQueue[bytes | BaseException | None] = queue.SimpleQueue()
    room = asyncio.Semaphore(BLOCKS_AHEAD)

    def taken() -> Iterator[bytes]:
        while (item := handed.get()) is not None:
            loop.call_soon_threadsafe(room.release)
            if isinstance(item, BaseException):
                raise item
            yield item

    working = loop.run_in_executor(_threads, work, taken())
    working.add_done_callback(lambda _: room.release())
    try:
        async for block in blocks:
            await room.acquire()
            if working.done():  # it failed before the end
                break
            handed.put(block)
    except BaseException as error:
        handed.put(error if isinstance(error, Exception) else Interrupted("the request was cancelled"))
        if isinstance(error, Exception):
            await asyncio.wait([working])
        else:
            working.add_done_callback(lambda done: done.exception())  # nobody else will ask
        raise
    handed.put(None)
    return await working


async def _drain(body: AsyncIterator[bytes]) -> None:
    left = LONGEST_DRAIN_BYTES
    async for chunk in body:
        left -= len(chunk)
        if left < 0:
            return


async def file_of_form(chunks: AsyncIterator[bytes], boundary: bytes) -> AsyncIterator[bytes]:
    """The content of the one file in a form, as it arrives. Raises InputError for any other form."""
    part = _FilePart()
    try:
        parser = MultipartParser(boundary, part.callbacks())
        async for chunk in chunks:
            parser.write(chunk)
            if part.content:
                yield b"".join(part.content)
                part.content.clear()
    except FormParserError as error:
        raise InputError(f"the form cannot be read: {error}") from error
    if not part.ended:
        raise InputError("the form ends too early; nothing was kept, send it again")
    if not part.files:
        raise InputError(f"the form holds no field named {FILE_FIELD!r} with the rows")


class _FilePart:
    """What the parser calls back; `content` gathers what has come of the file."""

    def __init__(self) -> None:
        self.content: list[bytes] = []
        self.files = 0
        self.ended = False
        self._header = b""
        self._value = b""
        self._disposition = b""

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._start,
            "on_part_data": self._add_content,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._disposition = b""

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _start(self) -> None:
        _, options = parse_options_header(self._disposition)
        field = options.get(b"name", b"").decode("utf-8", "replace")
        if field != FILE_FIELD:
            raise InputError(
                f"the form has a field {field!r}; it may hold one file, in the field {FILE_FIELD!r}, "
                "and everything else belongs in the URL's query"
            )
        self.files += 1
        if self.files > 1:
            raise InputError("the form holds two files; send one data set at a time")

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        self.content.append(data[start:end])

    def _end(self) -> None:
        self.ended = True
