"""Reading a request's body: in time, within bounds, decompressed. Of what is in it only the first bytes are looked at."""

import asyncio
import codecs
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

NDJSON = frozenset(
    f"application/{name}"
    for name in ("x-ndjson", "ndjson", "jsonl", "x-jsonl", "jsonlines", "x-jsonlines", "json-lines")
)
JSON = "application/json"
FORMS = "NDJSON (application/x-ndjson), or a JSON array or object (application/json)"
IN_A_THREAD = 64 << 10
"""Compressed bytes from which decompressing would keep other requests waiting."""

_FOREIGN = {
    b"\x1f\x8b": "gzip; send it with `Content-Encoding: gzip`",
    b"\x28\xb5\x2f\xfd": "zstd; send it with `Content-Encoding: zstd`",
    codecs.BOM_UTF16_LE: "UTF-16; send UTF-8",
    codecs.BOM_UTF16_BE: "UTF-16; send UTF-8",
    b"PAR1": "Parquet; send it with `lakehouse send`, or load it with `lakehouse load`",
}


class Buffer:
    """The bytes that one process holds for its clients, of which there may only be so many."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._most = most
        self._held = 0
        self._metrics = metrics

    @property
    def left(self) -> int:
        """Bytes that may still be taken."""
        return max(self._most - self._held, 0)

    def headers(self) -> dict[str, str]:
        """What is left, as draft-ietf-httpapi-ratelimit-headers-10 says it."""
        return {
            "ratelimit-policy": f'"buffer";q={self._most};qu="content-bytes";w=1',
            "ratelimit": f'"buffer";r={self.left};t=1',
        }

    def take(self, size: int) -> None:
        """Raises Problem 429 when there is no room."""
        if size > self.left:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "More arrives than can be stored; send this again in a second, and slower.",
                headers={"retry-after": "1"} | self.headers(),
            )
        self._add(size)

    def give_back(self, size: int) -> None:
        """These bytes are no longer held."""
        self._add(-size)

    def _add(self, size: int) -> None:
        self._held += size
        self._metrics.held(self._held)


class Reader:
    """Reads bodies of at most `most` bytes, decompressed, that take at most `seconds` to arrive."""

    def __init__(self, buffer: Buffer, *, most: int, seconds: float) -> None:
        self._buffer = buffer
        self._most = most
        self._seconds = seconds

    @asynccontextmanager
    async def body(self, request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
        """The body, held in the buffer for as long as the block lasts."""
        encoding = _encoding(request)
        held = 0
        try:
            chunks: list[bytes] = []
            if (length := _length(request)) > self._most:
                raise self._too_large()
            self._buffer.take(length)  # at once, lest many half bodies fill the buffer and none gets through
            held, have = length, 0
            async for chunk in self._arriving(request):
                chunks.append(chunk)
                have += len(chunk)
                if have > self._most:
                    raise self._too_large()
                if have > held:
                    self._buffer.take(have - held)
                    held = have
            body = b"".join(chunks)
            if encoding is not None:
                body = await self._decompressed(body, encoding)
                self._buffer.take(max(len(body) - held, 0))
                held = max(len(body), held)
            yield _recognised(body)
        finally:
            self._buffer.give_back(held)

    async def _arriving(self, request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
        try:
            async with asyncio.timeout(self._seconds):
                async for chunk in request.stream():
                    yield chunk
        except TimeoutError:
            detail = f"The body did not arrive within {self._seconds:g} s; send less at a time."
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, detail, headers={"connection": "close"}) from None
        except HTTPException:  # the framework's word for a client that left, or sent chunks that are none
            raise Problem(HTTPStatus.BAD_REQUEST, "The connection broke off within the body; send it again.") from None

    async def _decompressed(self, body: bytes, encoding: str) -> bytes:
        decompress = _gunzipped if encoding == "gzip" else _unzstd
        try:
            if len(body) < IN_A_THREAD:
                plain = decompress(body, self._most + 1)
            else:
                plain = await asyncio.to_thread(decompress, body, self._most + 1)
        except (zlib.error, OSError, EOFError) as problem:
            detail = f"The body is no {encoding}, or breaks off ({problem}); nothing was stored."
            raise Problem(HTTPStatus.BAD_REQUEST, detail) from problem
        if len(plain) > self._most:
            raise self._too_large()
        return plain

    def _too_large(self) -> Problem:
        return Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"A request may hold at most {self._most >> 20} MiB of events, decompressed; send them in several.",
            headers={"connection": "close"},
        )


def is_ndjson(request: Request[Any, Any, Any]) -> bool:
    """Whether the body is NDJSON and nothing else, by its media type. Raises Problem 415 for what is no JSON."""
    media_type, _, parameters = request.headers.get("content-type", JSON).lower().partition(";")
    charset = next(
        (p.partition("=")[2].strip(' "') for p in parameters.split(";") if p.strip().startswith("charset")), ""
    )
    if media_type.strip() not in NDJSON | {JSON}:
        detail = f"The events are {media_type.strip() or 'of no type'}; send {FORMS}. `lakehouse send` posts CSV and Parquet."
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The events are in {charset}; send UTF-8.")
    return media_type.strip() in NDJSON


def _encoding(request: Request[Any, Any, Any]) -> str | None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding not in ("gzip", "x-gzip", "zstd"):
        detail = f"The body is compressed with {encoding}; send it as gzip, zstd or as it is."
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers={"accept-encoding": "gzip, zstd"})
    return encoding.removeprefix("x-")


def _length(request: Request[Any, Any, Any]) -> int:
    text = request.headers.get("content-length", "0")
    return int(text) if text.isascii() and text.isdigit() else 0


def _gunzipped(body: bytes, most: int) -> bytes:
    found, size, rest = [], 0, body
    while rest and size < most:
        member = zlib.decompressobj(wbits=31)
        found.append(member.decompress(rest, most - size))
        size += len(found[-1])
        if not member.eof and size < most:
            raise EOFError("the end is missing")
        rest = member.unused_data.lstrip(b"\0")
    return b"".join(found)


def _unzstd(body: bytes, most: int) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(body), "zstd") as stream:
        plain: bytes = stream.read(most)
    return plain


def _recognised(body: bytes) -> bytes:
    """The body without a byte order mark. Raises Problem 415 for what is no text in UTF-8 from its very start."""
    while body.startswith(codecs.BOM_UTF8):
        body = body[len(codecs.BOM_UTF8) :]
    start = body[:64].lstrip()
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The body is {what}.")
    return body
