"""A load generator for HTTP: prepared requests over kept connections, at a rate or as fast as they are answered.

It only sends and waits, because it shares the machine's cores with the server that it measures.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import uvloop

END = b"\r\n\r\n"
RETRY_SECONDS = 60.0
"""Seconds for which a request is retried with `until_acknowledged`."""

BUSY_STATUSES = (429, 503)
BUSY_DELAY_SECONDS = 0.2
BROKEN_DELAY_SECONDS = 0.05


@dataclass(slots=True)
class LoadResult:
    """The responses of one load, over all connections."""

    statuses: dict[int, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    """Seconds from when a request was due to its 2xx answer."""
    broken: int = 0
    """Requests whose connection broke."""
    seconds: float = 0.0
    sent: list[int] = field(default_factory=list)
    """Numbers of the requests that were answered 2xx, in any order. The count goes on when the requests repeat."""

    @property
    def acknowledged(self) -> int:
        """Return the number of requests answered 2xx."""
        return len(self.latencies)

    def percentile(self, share: float) -> float:
        """Return the latency in seconds that this share of the requests stayed within."""
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")


def request(url: str, body: bytes, headers: Sequence[str] = (), *, content_type: str = "application/x-ndjson") -> bytes:
    """Return the bytes of a POST."""
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    head = [
        f"POST {path} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(head).encode() + END + body


def get(url: str) -> bytes:
    """Return the bytes of a GET."""
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    return f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n".encode() + b"\r\n"


def run(
    url: str,
    requests: Sequence[bytes],
    *,
    connections: int,
    seconds: float,
    rate: float | None = None,
    until_acknowledged: bool = False,
) -> LoadResult:
    """Send the requests in turn for `seconds`; with `rate`, that many per second.

    Latency counts from when a request was due, so that a stalled server is charged for the requests it delayed.
    With `until_acknowledged`, each request is retried until it is answered 2xx, also beyond `seconds`.
    """
    return uvloop.run(
        _send(url, requests, connections, _Turns(seconds, rate), RETRY_SECONDS if until_acknowledged else None)
    )


async def _send(
    url: str, requests: Sequence[bytes], connections: int, turns: "_Turns", retry_seconds: float | None
) -> LoadResult:
    result = LoadResult()
    parts = urlsplit(url)
    started = time.perf_counter()
    host, port = parts.hostname or "", parts.port or 80
    clients = [_Client(host, port, result) for _ in range(connections)]
    await asyncio.gather(*(client.run(requests, turns, retry_seconds) for client in clients))
    result.seconds = time.perf_counter() - started
    return result


class _Turns:
    """The next request and when it is due."""

    def __init__(self, seconds: float, rate: float | None) -> None:
        self._begun = time.perf_counter()
        self._end = self._begun + seconds
        self._rate = rate
        self._next = 0

    def take(self) -> tuple[int, float] | None:
        number, self._next = self._next, self._next + 1
        due = self._begun + number / self._rate if self._rate else time.perf_counter()
        return None if due >= self._end else (number, due)


class _Client:
    """Send requests one at a time over one connection, which is opened again after it breaks."""

    def __init__(self, host: str, port: int, result: LoadResult) -> None:
        self._host = host
        self._port = port
        self._result = result
        self._connection: _Connection | None = None

    async def run(self, requests: Sequence[bytes], turns: _Turns, retry_seconds: float | None) -> None:
        """Send the requests whose turn it is until there are none. Without `retry_seconds` each is sent once."""
        while (turn := turns.take()) is not None:
            number, due = turn
            if (delay := due - time.perf_counter()) > 0:
                await asyncio.sleep(delay)
            while not 200 <= (status := await self._send(requests[number % len(requests)])) < 300:
                if status in BUSY_STATUSES:
                    await asyncio.sleep(BUSY_DELAY_SECONDS)
                if retry_seconds is None or time.perf_counter() - due > retry_seconds:
                    break
            else:
                self._result.latencies.append(time.perf_counter() - due)
                self._result.sent.append(number)
        if self._connection is not None:
            self._connection.close()

    async def _send(self, content: bytes) -> int:
        """Send a request and return the status of its answer, or 0 if the connection broke."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = await _connect(self._host, self._port)
            status = await self._connection.exchange(content)
        except OSError:
            self._result.broken += 1
            self._connection = None
            await asyncio.sleep(BROKEN_DELAY_SECONDS)
            return 0
        self._result.statuses[status] = self._result.statuses.get(status, 0) + 1
        return status


async def _connect(host: str, port: int) -> "_Connection":
    _, connection = await asyncio.get_running_loop().create_connection(_Connection, host, port)
    return connection


class _Connection(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self) -> None:
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(END)
        if end and len(rest) >= _length(head) and self._answer is not None and not self._answer.done():
            self._received = b""
            self._answer.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the server closed the connection"))

    async def exchange(self, content: bytes) -> int:
        """Send a request and return the status of its answer. Raises OSError if the connection breaks."""
        if self._transport is None or self.closed:
            raise ConnectionResetError("the server closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(content)
        return await self._answer

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
