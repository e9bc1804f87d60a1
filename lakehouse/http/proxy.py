"""The gateway of a home: one address that answers some paths itself and forwards all others to the serving process.

The serving process is another program. All that is known of it here is the URL in its state file.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send
from multidict import CIMultiDict
from yarl import URL

from lakehouse.http.problems import MEDIA_TYPE, Problem, ProblemDetails
from lakehouse.http.unfinished_bodies import UnfinishedBodies
from lakehouse.processes.home import read_state

STATE_INTERVAL_SECONDS = 1.0
"""Time between reads of the serving process's state file."""

CONNECT_SECONDS = 2.0
MAX_CONNECTIONS = 1024
KEEPALIVE_SECONDS = 30.0
READ_BUFFER_BYTES = 256 << 10
MAX_HEADER_BYTES = 64 << 10

MAX_BODY_BYTES = 1 << 20
"""Room for a query of any characters, and its parameters."""

MAX_UNFINISHED_PER_CLIENT = 64
"""Bodies of one address that a process waits for: at most 64 MiB of memory. A query usually fits into one packet."""

MAX_DISCARDED_BYTES = 64 << 20
"""A body that is too large is read up to here, because a client that is still sending never sees the response."""

_HOP_BY_HOP_HEADERS = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""Headers that concern a connection and not the message, RFC 9110 section 7.6.1."""

_BODY_HEADERS = (b"content-length", b"transfer-encoding")

_CLIENT_HEADERS = ("accept", "accept-encoding", "content-type", "user-agent")
"""Headers that aiohttp would add by itself where the client has sent none."""


class Forwarder:
    """Forwards requests to the serving process, once their bodies are complete, and streams its responses."""

    def __init__(self, state: Path, body_seconds: float) -> None:
        """Take the serving process's URL from the file `state`. A request's body may take `body_seconds` to arrive."""
        self._state = state
        self._unfinished = UnfinishedBodies(body_seconds, MAX_UNFINISHED_PER_CLIENT)
        self._state_read_at = float("-inf")
        self._url: str | None = None
        self._client: aiohttp.ClientSession | None = None

    def address(self) -> str | None:
        """Return the serving process's URL; None when it does not run."""
        if time.monotonic() - self._state_read_at >= STATE_INTERVAL_SECONDS:
            self._state_read_at = time.monotonic()
            self._url = (read_state(self._state) or {}).get("url")
        return self._url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the serving process's response, or 503 if it does not respond."""
        assert scope["type"] == ScopeType.HTTP
        url = self.address()
        if url is None:
            await _send_problem(send, _unavailable("The serving process is not running. Start it with `lakehouse up`."))
            return
        try:
            _reject_repeated_host(scope)
            body = await self._body(scope, receive)
        except Problem as error:
            await _send_problem(send, error)
            return
        forwarding = asyncio.ensure_future(self._forward(scope, url, body, send))
        disconnect = asyncio.ensure_future(_wait_for_disconnect(receive))
        try:
            # A client that disconnects ends the request, even before there is a response: the serving process sees it.
            await asyncio.wait({forwarding, disconnect}, return_when=asyncio.FIRST_COMPLETED)
            if forwarding.done():
                forwarding.result()
        finally:
            for task in (forwarding, disconnect):
                task.cancel()
            await asyncio.gather(forwarding, disconnect, return_exceptions=True)

    async def _body(self, scope: HTTPScope, receive: Receive) -> bytes:
        """Receive a whole body, so that those that never end take up no connections of the serving process."""
        # HTTP/2 announces no body.
        if scope["http_version"] != "2" and not any(name in _BODY_HEADERS for name, _ in scope["headers"]):
            return b""
        async with self._unfinished.limit(scope):
            return await _receive_body(receive)

    async def _forward(self, scope: HTTPScope, url: str, body: bytes, send: Send) -> None:
        response_started = False
        try:
            async with self._session().request(
                scope["method"],
                _target(url, scope),
                headers=_decode(_end_to_end(scope["headers"])),
                skip_auto_headers=_CLIENT_HEADERS,
                data=body or None,
                allow_redirects=False,
            ) as response:
                response_started = True
                await _send_response(response, send)
        except aiohttp.ClientError:
            if response_started:
                raise  # the client sees that the response is cut off
            self._state_read_at = float("-inf")
            await _send_problem(
                send, _unavailable("The serving process does not respond; it may be starting. Try again.")
            )

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._client is None:
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_SECONDS),
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=READ_BUFFER_BYTES,
                max_line_size=MAX_HEADER_BYTES,
                max_field_size=MAX_HEADER_BYTES,
            )
        return self._client


FastPath = Callable[[HTTPScope], bytes | None]
"""Returns the JSON body of a response that needs no I/O, or None if the application has to handle the request."""


class Gateway:
    """Answers `paths` with this application and forwards all others to the serving process."""

    def __init__(self, app: ASGIApp, forwarder: Forwarder, paths: Iterable[str], fast_path: FastPath) -> None:
        """`paths` are first segments such as `/health`. `fast_path` is tried first and saves the application's cost."""
        self._app = app
        self._forwarder = forwarder
        self._paths = frozenset(paths)
        self._fast_path = fast_path

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request or forward it."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
        elif not self._is_own(scope["path"]):
            await self._forwarder(scope, receive, send)
        elif (body := self._fast_path(scope)) is not None:
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": HTTPStatus.OK.value, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": False})
        else:
            await self._app(scope, receive, send)

    def _is_own(self, path: str) -> bool:
        if path == "/schema" or path.startswith("/schema/"):
            return self._forwarder.address() is None  # the serving process's document has our paths as well
        return any(path == own or path.startswith(f"{own}/") for own in self._paths)


async def _receive_body(receive: Receive) -> bytes:
    """Return a request's body. Raises Problem: 400 if it breaks off, and 413 if it is too large."""
    pieces, size, more = [], 0, True
    while more and size <= MAX_DISCARDED_BYTES:
        message = await receive()
        if message["type"] != "http.request":
            raise Problem(HTTPStatus.BAD_REQUEST, "The connection broke off within the body. Send it again.")
        piece, more = message["body"], message.get("more_body", False)
        size += len(piece)
        if size <= MAX_BODY_BYTES:
            pieces.append(piece)
    if size > MAX_BODY_BYTES:
        detail = f"A request to this path may have at most {MAX_BODY_BYTES >> 10:,} KiB."
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, headers={"connection": "close"})
    return b"".join(pieces)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_response(response: aiohttp.ClientResponse, send: Send) -> None:
    headers = _end_to_end(response.raw_headers)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    async for chunk in response.content.iter_any():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _target(url: str, scope: HTTPScope) -> URL:
    query = scope["query_string"]
    raw = scope.get("raw_path") or scope["path"].encode()
    path = raw.partition(b"?")[0] + (b"?" + query if query else b"")
    return URL(url + path.decode("utf-8", "replace"), encoded=True)


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name.lower() not in _HOP_BY_HOP_HEADERS]


def _decode(headers: Iterable[tuple[bytes, bytes]]) -> CIMultiDict[str]:
    return CIMultiDict((name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in headers)


def _unavailable(detail: str) -> Problem:
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"retry-after": "2"})


def _reject_repeated_host(scope: HTTPScope) -> None:
    """Raise Problem 400 for several Host headers, RFC 9112 section 3.2: aiohttp would pass on the last one alone."""
    if sum(name == b"host" for name, _ in scope["headers"]) > 1:
        raise Problem(HTTPStatus.BAD_REQUEST, "The request has several Host headers. Send one.")


async def _send_problem(send: Send, problem: Problem) -> None:
    content = msgspec.json.encode(ProblemDetails(problem.title or "", problem.status_code, problem.detail))
    own = [(name.encode(), value.encode()) for name, value in (problem.headers or {}).items()]
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(content)), *own]
    await send({"type": "http.response.start", "status": problem.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": False})
