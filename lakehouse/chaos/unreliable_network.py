"""A proxy in front of storage that fails as networks and servers do, at random from a seed.

It parses just enough of HTTP/1.1 to tell one request from the next. Each request gets a connection of its own to the
server; bytes are passed on unchanged.
"""

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Thread

HEAD_BYTES = 1 << 16
CHUNK_BYTES = 1 << 16

FAULTS = ("error", "slow down", "too many", "reset", "silence", "lost answer", "cut answer", "slow answer", "no answer")
"""A 500; a 503 and a 429; a reset, or silence, before the request reaches the server. After the server has handled the
request: an answer that is lost, cut, slow, or never sent."""

SILENT = ("silence", "no answer")
SILENCE_SECONDS = 300.0
"""Seconds after which a silent connection is closed."""

_ANSWERS = {
    "error": b"HTTP/1.1 500 Internal Server Error",
    "slow down": b"HTTP/1.1 503 Slow Down",
    "too many": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0",
}


@dataclass(slots=True)
class NetworkFaults:
    """The current faults of the network; safe to change at any time."""

    share: float = 0.0
    """Share of requests that meet a fault."""
    kinds: Sequence[str] = FAULTS
    """Kinds of fault to draw from."""
    only: bytes = b""
    """Bytes that the first line of a request must contain to meet one, such as its method."""
    remaining: int | None = None
    """Number of requests that may still meet one; None is without limit."""
    counts: "Counter[str]" = field(default_factory=Counter)
    """Number of requests by fault; "none" counts those without one."""


@contextmanager
def unreliable(port: int, network: NetworkFaults, seed: int) -> Iterator[int]:
    """Run a proxy to a local port during the block; yield the proxy's port."""
    proxy = _Proxy(port, network, random.Random(seed))  # noqa: S311
    thread = Thread(target=proxy.run, name=f"unreliable-{port}", daemon=True)
    thread.start()
    proxy.ready.wait()
    try:
        yield proxy.port
    finally:
        proxy.stop()
        thread.join()


class _Proxy:
    """The proxy, on an event loop in a thread of its own."""

    def __init__(self, upstream: int, network: NetworkFaults, rng: random.Random) -> None:
        self._upstream, self._network, self._rng = upstream, network, rng
        self._tasks: set[asyncio.Task[object]] = set()
        self.ready = Event()
        self.port = 0
        self.stop: Callable[[], object] = lambda: None

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.stop = lambda: loop.call_soon_threadsafe(ended.set)
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0, limit=HEAD_BYTES)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        await ended.wait()
        server.close()
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)  # because the event loop keeps no reference to it
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
                head = await reader.readuntil(b"\r\n\r\n")
                fault = self._next(head.split(b"\r\n", 1)[0])
                self._network.counts[fault] += 1
                if fault == "reset":
                    _reset(writer)
                elif fault == "silence":
                    await _be_silent(reader)
                elif fault in _ANSWERS:
                    await _refuse(reader, writer, head, _ANSWERS[fault])
                else:
                    await self._pass_on(reader, writer, head, fault)
        finally:
            await _close(writer)
            self._tasks.discard(task)

    def _next(self, request: bytes) -> str:
        network = self._network
        if network.remaining == 0 or network.only not in request or self._rng.random() >= network.share:
            return "none"
        if network.remaining is not None:
            network.remaining -= 1
        return self._rng.choice(network.kinds)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, fault: str
    ) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            _reset(writer)
            return
        upstream_writer.write(_closing(head))
        body = asyncio.create_task(_copy(reader, upstream_writer))
        try:
            await self._answer(upstream_reader, writer, fault)
            if fault == "no answer":
                await asyncio.wait({body}, timeout=SILENCE_SECONDS)
        finally:
            upstream_writer.close()  # before anything is awaited, because the proxy may stop meanwhile
            body.cancel()
            await asyncio.gather(body, return_exceptions=True)
            await _close(upstream_writer)

    async def _answer(self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: str) -> None:
        interim = True
        while interim:  # "100 Continue" is not the final answer
            head = await upstream.readuntil(b"\r\n\r\n")
            interim = head.startswith(b"HTTP/1.1 100")
            if interim:
                writer.write(head)
        if fault == "lost answer":
            _reset(writer)
            return
        if fault == "no answer":
            return
        if fault == "slow answer":
            await asyncio.sleep(self._rng.uniform(0.1, 0.5))
        first = await upstream.read(CHUNK_BYTES)
        if fault == "cut answer":
            writer.write((head + first)[: len(head) + len(first) // 2] if first else head[: len(head) // 2])
            await writer.drain()
            return
        writer.write(_closing(head) + first)
        while chunk := await upstream.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        await writer.drain()


async def _be_silent(reader: asyncio.StreamReader) -> None:
    """Read and never answer, until the client closes the connection."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SILENCE_SECONDS):
            while await reader.read(CHUNK_BYTES):
                pass


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, asyncio.CancelledError):
        await writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.CancelledError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, status: bytes) -> None:
    """Answer without the server, after reading the request's body, as most servers do."""
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    if b"100-continue" not in head.lower():
        while length > 0 and (chunk := await reader.read(min(length, CHUNK_BYTES))):
            length -= len(chunk)
    writer.write(status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()


def _closing(head: bytes) -> bytes:
    """Return the head with `Connection: close`."""
    lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith((b"connection:", b"keep-alive:"))]
    return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n"


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close the connection with RST, so that the client sees an error instead of an end."""
    with suppress(OSError):
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
