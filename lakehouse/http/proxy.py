"""The gateway of a home: one address that answers some paths itself and forwards all others to the serving process.

The serving process is another program. All that is known of it here is the URL in its state file.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send
from multidict import CIMultiDict
from yarl import URL

from lakehouse.http.problems import MEDIA_TYPE, ProblemDetails
from lakehouse.processes.home import read_state

STATE_INTERVAL_SECONDS = 1.0
"""Time between reads of the serving process's state file."""

CONNECT_SECONDS = 2.0
MAX_CONNECTIONS = 1024
KEEPALIVE_SECONDS = 30.0
READ_BUFFER_BYTES = 256 << 10
MAX_HEADER_BYTES = 64 << 10

_HOP_BY_HOP_HEADERS = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""Headers that concern a connection and not the message, RFC 9110 section 7.6.1."""

_CLIENT_HEADERS = ("accept", "accept-encoding", "content-type", "user-agent")
"""Headers that aiohttp would add by itself where the client has sent none."""


class Forwarder:
    """Forwards requests to the serving process, streaming bodies both ways."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._state_read_at = float("-inf")
        self._url: str | None = None
        self._client: aiohttp.ClientSession | None = None

    def address(self) -> str | None:
        """The serving process's URL; None when it does not run."""
        if time.monotonic() - self._state_read_at >= STATE_INTERVAL_SECONDS:
            self._state_read_at = time.monotonic()
            self._url = (read_state(self._state) or {}).get("url")
        return self._url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the serving process's response, or 503 if it does not respond."""
        assert scope["type"] == ScopeType.HTTP
        url = self.address()
        if url is None:
            await _send_unavailable(send, "The serving process is not running. Start it with `lakehouse up`.")
            return
        messages = _ClientMessages(scope, receive)
        forwarding = asyncio.ensure_future(self._forward(scope, url, messages, send))
        disconnect = asyncio.ensure_future(messages.wait_for_disconnect())
        try:
            # A client that disconnects ends the request, even before there is a response: the serving process sees it.
            await asyncio.wait({forwarding, disconnect}, return_when=asyncio.FIRST_COMPLETED)
            if forwarding.done():
                forwarding.result()
        finally:
            for task in (forwarding, disconnect):
                task.cancel()
            await asyncio.gather(forwarding, disconnect, return_exceptions=True)

    async def _forward(self, scope: HTTPScope, url: str, messages: "_ClientMessages", send: Send) -> None:
        response_started = False
        try:
            async with self._session().request(
                scope["method"],
                _target(url, scope),
                headers=_decode(_end_to_end(scope["headers"])),
                skip_auto_headers=_CLIENT_HEADERS,
                data=messages.body(),
                allow_redirects=False,
            ) as response:
                response_started = True
                await _send_response(response, send)
        except aiohttp.ClientError:
            if response_started:
                raise  # the client sees that the response is cut off
            self._state_read_at = float("-inf")
            await _send_unavailable(send, "The serving process does not respond; it may be starting. Try again.")

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


class _ClientMessages:
    """The ASGI messages of a client: first its body, then its disconnect."""

    def __init__(self, scope: HTTPScope, receive: Receive) -> None:
        self._receive = receive
        self._body_read = asyncio.Event()
        names = {name for name, _ in scope["headers"]}
        if not names & {b"content-length", b"transfer-encoding"}:
            self._body_read.set()

    def body(self) -> AsyncIterator[bytes] | None:
        """Iterate over the body, once; None when there is none."""
        return None if self._body_read.is_set() else self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while not self._body_read.is_set():
            message = await self._receive()
            if message["type"] != "http.request":
                raise aiohttp.ClientConnectionError("the client has disconnected")
            if not message.get("more_body", False):
                self._body_read.set()
            if chunk := message.get("body", b""):
                yield chunk

    async def wait_for_disconnect(self) -> None:
        """Return when the client disconnects after it has sent its body."""
        await self._body_read.wait()
        while (await self._receive())["type"] != "http.disconnect":
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


async def _send_unavailable(send: Send, detail: str) -> None:
    status = HTTPStatus.SERVICE_UNAVAILABLE
    content = msgspec.json.encode(ProblemDetails(status.phrase, status.value, detail))
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"retry-after", b"2")]
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": False})
