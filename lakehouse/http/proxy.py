"""What this server does not answer itself goes to the serving process of its home, and its answer comes back as it is.

All that is known of that process is the address in its state file: it is another program, started and stopped apart.
"""

import asyncio
import json
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

LOOK_SECONDS = 1.0
"""Between looks at where the serving process is."""

CONNECT_SECONDS = 2.0
CONNECTIONS = 1024
IDLE_SECONDS = 30.0
"""For which a connection is kept for the next request."""

PIECE = 256 << 10
"""Bytes of an answer that are at hand."""

LONGEST_HEADER = 64 << 10

_OF_ONE_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
"""Headers that are about a connection and not the message, RFC 9110 section 7.6.1."""

_NOT_OURS = ("accept", "accept-encoding", "content-type", "user-agent")
"""Headers that are the client's to send or not."""


class Forwarder:
    """Passes requests on, bodies and answers in pieces as they come, so that events and large results can stream."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._looked = float("-inf")
        self._url: str | None = None
        self._client: aiohttp.ClientSession | None = None

    def address(self) -> str | None:
        """Where the serving process says it is; None when none runs."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            try:
                self._url = str(json.loads(self._state.read_text())["url"])
            except (OSError, ValueError, KeyError, TypeError):
                self._url = None
        return self._url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with what the serving process answers; 503 when it doesn't."""
        assert scope["type"] == ScopeType.HTTP
        url = self.address()
        if url is None:
            await _unavailable(send, "The serving process does not run; `lakehouse up` starts it.")
            return
        inbox = _Inbox(scope, receive)
        passing = asyncio.ensure_future(self._pass_on(scope, url, inbox, send))
        leaving = asyncio.ensure_future(inbox.left())
        try:
            # A client that leaves, be it before there is an answer, ends the request; the serving process sees that.
            await asyncio.wait({passing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if passing.done():
                passing.result()
        finally:
            for task in (passing, leaving):
                task.cancel()
            await asyncio.gather(passing, leaving, return_exceptions=True)

    async def _pass_on(self, scope: HTTPScope, url: str, inbox: "_Inbox", send: Send) -> None:
        begun = False
        try:
            async with self._http().request(
                scope["method"],
                _target(url, scope),
                headers=_as_text(_passed_on(scope["headers"])),
                skip_auto_headers=_NOT_OURS,
                data=inbox.body(),
                allow_redirects=False,
            ) as answer:
                begun = True
                await _relay(answer, send)
        except aiohttp.ClientError:
            if begun:
                raise  # the client sees that its answer is cut off
            self._looked = float("-inf")
            await _unavailable(send, "The serving process does not answer; it may be starting. Ask again.")

    async def close(self) -> None:
        """End all connections."""
        if self._client is not None:
            await self._client.close()

    def _http(self) -> aiohttp.ClientSession:
        if self._client is None:
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=IDLE_SECONDS),
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=PIECE,
                max_line_size=LONGEST_HEADER,
                max_field_size=LONGEST_HEADER,
            )
        return self._client


AtOnce = Callable[[HTTPScope], bytes | None]
"""The JSON that answers a request for which nothing has to be waited for; None where the application has to look at it."""


class FrontDoor:
    """One address for both: these paths are this application's, all others the serving process's."""

    def __init__(self, app: ASGIApp, forwarder: Forwarder, paths: Iterable[str], at_once: AtOnce) -> None:
        """`paths` are first segments such as `/health`; `at_once` is asked first, and spares what it answers all the rest."""
        self._app = app
        self._forwarder = forwarder
        self._paths = frozenset(paths)
        self._at_once = at_once

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer here or pass on."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
        elif not self._is_mine(scope["path"]):
            await self._forwarder(scope, receive, send)
        elif (body := self._at_once(scope)) is not None:
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": HTTPStatus.OK.value, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": False})
        else:
            await self._app(scope, receive, send)

    def _is_mine(self, path: str) -> bool:
        if path == "/schema" or path.startswith("/schema/"):
            return self._forwarder.address() is None  # its document has our paths as well
        return any(path == mine or path.startswith(f"{mine}/") for mine in self._paths)


class _Inbox:
    """The client's messages: first the body, then its leaving."""

    def __init__(self, scope: HTTPScope, receive: Receive) -> None:
        self._receive = receive
        self._read = asyncio.Event()
        names = {name for name, _ in scope["headers"]}
        if not names & {b"content-length", b"transfer-encoding"}:
            self._read.set()

    def body(self) -> AsyncIterator[bytes] | None:
        """The body in pieces, once; None when there is none."""
        return None if self._read.is_set() else self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        while not self._read.is_set():
            message = await self._receive()
            if message["type"] != "http.request":
                raise aiohttp.ClientConnectionError("the client has left")
            if not message.get("more_body", False):
                self._read.set()
            if piece := message.get("body", b""):
                yield piece

    async def left(self) -> None:
        """Returns when the client has gone after its body."""
        await self._read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _relay(answer: aiohttp.ClientResponse, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": _passed_on(answer.raw_headers)})
    async for piece in answer.content.iter_any():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _target(url: str, scope: HTTPScope) -> URL:
    query = scope["query_string"]
    raw = scope.get("raw_path") or scope["path"].encode()
    path = raw.partition(b"?")[0] + (b"?" + query if query else b"")
    return URL(url + path.decode("utf-8", "replace"), encoded=True)


def _passed_on(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name.lower() not in _OF_ONE_HOP]


def _as_text(headers: Iterable[tuple[bytes, bytes]]) -> CIMultiDict[str]:
    return CIMultiDict((name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in headers)


async def _unavailable(send: Send, detail: str) -> None:
    status = HTTPStatus.SERVICE_UNAVAILABLE
    content = msgspec.json.encode(ProblemDetails(status.phrase, status.value, detail))
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"retry-after", b"2")]
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": False})
