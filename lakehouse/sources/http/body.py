"""Read a request's body: within a time and size limit, decompressed.

Only its first bytes are inspected, for formats that are not accepted. See `framing` for what is in it.
"""

import asyncio
import codecs
import re
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pyarrow as pa
from litestar import Request
from litestar.exceptions import HTTPException

from lakehouse.http.metrics import Metrics
from lakehouse.http.problems import Problem
from lakehouse.http.unfinished_bodies import UnfinishedBodies
from lakehouse.landing.readers.content import XZ_MAGIC

NDJSON = frozenset(
    f"application/{name}"
    for name in ("x-ndjson", "ndjson", "jsonl", "x-jsonl", "jsonlines", "x-jsonlines", "json-lines")
)
JSON = "application/json"
ACCEPTED_FORMATS = "NDJSON (application/x-ndjson), or a JSON array or object (application/json)"
UTF8_CHARSETS = ("", "utf-8", "utf8", "us-ascii")

THREAD_BYTES = 64 << 10
"""Compressed bytes from which decompression runs in a thread, because it would keep other requests waiting."""

MAX_GZIP_MEMBERS = 65_536
"""More than one for each event that a request may have by default. An empty member of 20 bytes costs as much as a large one."""

FIRST_CHUNK_BYTES, MAX_CHUNK_BYTES = 128, 64 << 10
"""zlib copies what follows a member out of the chunk it was given, so chunks begin small and grow with the member."""

MAX_PIECE_BYTES = 1 << 20
"""Between two checks of the time limit."""

ZIP_MAGIC = b"PK\x03\x04"

_PADDING = re.compile(rb"\0*")

_OTHER_FORMATS = {
    b"\x1f\x8b": "gzip; send it with `Content-Encoding: gzip`",
    b"\x28\xb5\x2f\xfd": "zstd; send it with `Content-Encoding: zstd`",
    codecs.BOM_UTF16_LE: "UTF-16; send UTF-8",
    codecs.BOM_UTF16_BE: "UTF-16; send UTF-8",
    ZIP_MAGIC: "a zip archive; send the events in it",
    XZ_MAGIC: "xz; send it with gzip or zstd and `Content-Encoding`",
    **{b"BZh%d1AY&SY" % level: "bzip2; send it with gzip or zstd and `Content-Encoding`" for level in range(1, 10)},
    b"PAR1": "Parquet; send it with `lakehouse send`, or load it with `lakehouse load`",
}


class BufferLimit:
    """Limits the bytes of requests that one process holds in memory."""

    def __init__(self, max_bytes: int, metrics: Metrics) -> None:
        self._max_bytes = max_bytes
        self._held = 0
        self._metrics = metrics

    @property
    def available(self) -> int:
        """Bytes that can still be reserved."""
        return max(self._max_bytes - self._held, 0)

    def headers(self) -> dict[str, str]:
        """Return the limit as response headers, by draft-ietf-httpapi-ratelimit-headers-10."""
        return {
            "ratelimit-policy": f'"buffer";q={self._max_bytes};qu="content-bytes";w=1',
            "ratelimit": f'"buffer";r={self.available};t=1',
        }

    def reserve(self, size: int) -> None:
        """Reserve bytes. Raises Problem 429 if fewer are available."""
        if size > self.available:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "Events arrive faster than they can be stored. Send this again in a second, and slow down.",
                headers={"retry-after": "1"} | self.headers(),
            )
        self._add(size)

    def release(self, size: int) -> None:
        """Release reserved bytes."""
        self._add(-size)

    def _add(self, size: int) -> None:
        self._held += size
        self._metrics.set_buffer_bytes(self._held)


class BodyReader:
    """Reads bodies of at most `max_bytes`, decompressed, that arrive within `seconds`."""

    def __init__(self, buffer: BufferLimit, *, max_bytes: int, seconds: float) -> None:
        self._buffer = buffer
        self._unfinished = UnfinishedBodies(seconds)
        self._max_bytes = max_bytes
        self._seconds = seconds

    @asynccontextmanager
    async def body(self, request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
        """Yield the body, whose bytes are reserved in the buffer until the block ends.

        Raises Problem: 400 for a body that breaks off or can't be decompressed, 408 if it takes too long, 413 if it is
        too large, 415 for another encoding or format, and 429 if the buffer is full or the client sends too many.
        """
        encoding = _content_encoding(request)
        reserved = 0
        try:
            chunks: list[bytes] = []
            if (length := _content_length(request)) > self._max_bytes:
                raise self._too_large()
            # Reserve all of it at once: many half bodies would fill the buffer, and none could be completed.
            self._buffer.reserve(length)
            reserved, received = length, 0
            async with self._unfinished.limit(request.scope):
                async for chunk in _stream(request):
                    chunks.append(chunk)
                    received += len(chunk)
                    if received > self._max_bytes:
                        raise self._too_large()
                    if received > reserved:
                        self._buffer.reserve(received - reserved)
                        reserved = received
            body = b"".join(chunks)
            if encoding is not None:
                body = await self._decompress(body, encoding)
                self._buffer.reserve(max(len(body) - reserved, 0))
                reserved = max(len(body), reserved)
            yield _check_format(body)
        finally:
            self._buffer.release(reserved)

    async def _decompress(self, body: bytes, encoding: str) -> bytes:
        decompress = _decompress_gzip if encoding == "gzip" else _decompress_zstd
        deadline = time.monotonic() + self._seconds
        try:
            if len(body) < THREAD_BYTES:
                plain = decompress(body, self._max_bytes + 1, deadline)
            else:
                plain = await asyncio.to_thread(decompress, body, self._max_bytes + 1, deadline)
        except TimeoutError:
            detail = f"The body could not be decompressed within {self._seconds:g} s. Send less at a time."
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, detail, headers={"connection": "close"}) from None
        except (zlib.error, OSError, EOFError) as error:
            detail = f"The body is not {encoding}, or breaks off ({error}). Nothing was stored."
            raise Problem(HTTPStatus.BAD_REQUEST, detail) from error
        if len(plain) > self._max_bytes:
            raise self._too_large()
        return plain

    def _too_large(self) -> Problem:
        return Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"A request may have at most {self._max_bytes >> 20} MiB of events, decompressed. Send several requests.",
            headers={"connection": "close"},
        )


async def _stream(request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except HTTPException:  # Litestar raises it for a client that disconnects and for malformed chunks
        raise Problem(HTTPStatus.BAD_REQUEST, "The connection broke off within the body. Send it again.") from None


def is_ndjson(request: Request[Any, Any, Any]) -> bool:
    """Return whether the media type is NDJSON, not JSON. Raises Problem 415 for any other type, and for a charset but UTF-8."""
    media_type, _, parameters = request.headers.get("content-type", JSON).lower().partition(";")
    charset = next(
        (p.partition("=")[2].strip(' "') for p in parameters.split(";") if p.strip().startswith("charset")), ""
    )
    if media_type.strip() not in NDJSON | {JSON}:
        detail = (
            f"The media type {media_type.strip() or '(none)'} is not accepted. Send {ACCEPTED_FORMATS}."
            " `lakehouse send` posts CSV and Parquet."
        )
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    if charset not in UTF8_CHARSETS:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The charset {charset} is not accepted. Send UTF-8.")
    return media_type.strip() in NDJSON


def _content_encoding(request: Request[Any, Any, Any]) -> str | None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding not in ("gzip", "x-gzip", "zstd"):
        detail = f"The content encoding {encoding} is not accepted. Send gzip, zstd or no compression."
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers={"accept-encoding": "gzip, zstd"})
    return encoding.removeprefix("x-")


def _content_length(request: Request[Any, Any, Any]) -> int:
    text = request.headers.get("content-length", "0")
    return int(text) if text.isascii() and text.isdigit() else 0


def _decompress_gzip(body: bytes, max_bytes: int, deadline: float) -> bytes:
    """Decompress all gzip members, up to `max_bytes`, in time linear in the body.

    Raises EOFError if the last one is incomplete, zlib.error for more than MAX_GZIP_MEMBERS, and TimeoutError.
    """
    chunks: list[bytes] = []
    size = at = members = 0
    while at < len(body) and size < max_bytes:
        members += 1
        if members > MAX_GZIP_MEMBERS:
            raise zlib.error(f"it has more than {MAX_GZIP_MEMBERS:,} members")
        at, plain = _decompress_member(body, at, max_bytes - size, deadline)
        chunks += plain
        size += sum(map(len, plain))
        at = _end_of_padding(body, at)
    return b"".join(chunks)


def _decompress_member(body: bytes, at: int, max_bytes: int, deadline: float) -> tuple[int, list[bytes]]:
    """Decompress the gzip member at a position, up to `max_bytes`; return the position after it, and its content."""
    member = zlib.decompressobj(wbits=31)
    plain: list[bytes] = []
    size, chunk_bytes = 0, FIRST_CHUNK_BYTES
    while not member.eof and size < max_bytes:
        if time.monotonic() > deadline:
            raise TimeoutError
        chunk = body[at : at + chunk_bytes]
        plain.append(member.decompress(chunk, max_bytes - size))
        size += len(plain[-1])
        if not chunk and not member.eof and not plain[-1]:
            raise EOFError("the end is missing")
        at += len(chunk) - len(member.unused_data) - len(member.unconsumed_tail)
        chunk_bytes = min(chunk_bytes * 2, MAX_CHUNK_BYTES)
    return at, plain


def _end_of_padding(body: bytes, at: int) -> int:
    """Return the position after the zeros at `at`, with which some programs pad a member."""
    padding = _PADDING.match(body, at)
    return padding.end() if padding else at


def _decompress_zstd(body: bytes, max_bytes: int, deadline: float) -> bytes:
    """Decompress up to `max_bytes`. Raises TimeoutError after the deadline."""
    pieces: list[bytes] = []
    size = 0
    with pa.CompressedInputStream(pa.BufferReader(body), "zstd") as stream:
        while size < max_bytes and (piece := stream.read(min(max_bytes - size, MAX_PIECE_BYTES))):
            pieces.append(piece)
            size += len(piece)
            if time.monotonic() > deadline:
                raise TimeoutError
    return b"".join(pieces)


def _check_format(body: bytes) -> bytes:
    """Return the body without byte order marks. Raises Problem 415 if its first bytes are those of another format."""
    while body.startswith(codecs.BOM_UTF8):
        body = body[len(codecs.BOM_UTF8) :]
    start = body[:64].lstrip()
    for magic, description in _OTHER_FORMATS.items():
        if start.startswith(magic):
            raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The body is {description}.")
    return body
