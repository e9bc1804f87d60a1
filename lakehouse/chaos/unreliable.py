"""A network between us and storage that fails as networks and servers do, by chance and by its seed.

It understands as much of HTTP/1.1 as it takes to see one request from the next: each gets a connection of its own to the
server, and what comes and goes is passed on as it is.
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
PIECE = 1 << 16

FAULTS = ("error", "slow down", "too many", "reset", "silence", "lost answer", "cut answer", "slow answer", "no answer")
"""A 500; a 503 and a 429 that ask for patience; a reset, or nothing at all, instead of sending it on; and after the server
has done what was asked, an answer that is lost whole, one that is cut, one that takes its time, and one that never comes."""

SILENT = ("silence", "no answer")
SILENCE_SECONDS = 300.0
"""After which who still waits for an answer is let go."""

_ANSWERS = {
    "error": b"HTTP/1.1 500 Internal Server Error",
    "slow down": b"HTTP/1.1 503 Slow Down",
    "too many": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0",
}


@dataclass(slots=True)
class Weather:
    """How bad the network is now; safe to change at any time."""

    share: float = 0.0
    """Of the requests, how many meet a fault."""
    faults: Sequence[str] = FAULTS
    only: bytes = b""
    """What has to be in the first line of a request that meets one, such as its method."""
    left: int | None = None
    """How many more requests meet one; None for any number."""
    met: "Counter[str]" = field(default_factory=Counter)
    """Requests by the fault that they met, "none" for those that met none."""


@contextmanager
def unreliable(port: int, weather: Weather, seed: int) -> Iterator[int]:
    """A port of this machine that leads to another through such weather, for as long as the block lasts."""
    proxy = _Proxy(port, weather, random.Random(seed))  # noqa: S311
    thread = Thread(target=proxy.run, name=f"unreliable-{port}", daemon=True)
    thread.start()
    proxy.ready.wait()
    try:
        yield proxy.port
    finally:
        proxy.stop()
        thread.join()


class _Proxy:
    def __init__(self, upstream: int, weather: Weather, chance: random.Random) -> None:
        self._upstream, self._weather, self._chance = upstream, weather, chance
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
        self._tasks.add(task)  # the loop itself would let go of it
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
                head = await reader.readuntil(b"\r\n\r\n")
                fault = self._next(head.split(b"\r\n", 1)[0])
                self._weather.met[fault] += 1
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
        weather = self._weather
        if weather.left == 0 or weather.only not in request or self._chance.random() >= weather.share:
            return "none"
        if weather.left is not None:
            weather.left -= 1
        return self._chance.choice(weather.faults)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, fault: str
    ) -> None:
        try:
            answers, asking = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            _reset(writer)
            return
        asking.write(_closing(head))
        body = asyncio.create_task(_copy(reader, asking))
        try:
            await self._answer(answers, writer, fault)
            if fault == "no answer":
                await asyncio.wait({body}, timeout=SILENCE_SECONDS)
        finally:
            body.cancel()
            await asyncio.gather(body, return_exceptions=True)
            await _close(asking)

    async def _answer(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: str) -> None:
        interim = True
        while interim:  # "100 Continue" is not the answer yet
            head = await answers.readuntil(b"\r\n\r\n")
            interim = head.startswith(b"HTTP/1.1 100")
            if interim:
                writer.write(head)
        if fault == "lost answer":
            _reset(writer)
            return
        if fault == "no answer":
            return
        if fault == "slow answer":
            await asyncio.sleep(self._chance.uniform(0.1, 0.5))
        first = await answers.read(PIECE)
        if fault == "cut answer":
            writer.write((head + first)[: len(head) + len(first) // 2] if first else head[: len(head) // 2])
            await writer.drain()
            return
        writer.write(_closing(head) + first)
        while piece := await answers.read(PIECE):
            writer.write(piece)
            await writer.drain()
        await writer.drain()


async def _be_silent(reader: asyncio.StreamReader) -> None:
    """Take what comes and say nothing, until the other side has had enough."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SILENCE_SECONDS):
            while await reader.read(PIECE):
                pass


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, asyncio.CancelledError):
        await writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.CancelledError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, status: bytes) -> None:
    """Answer without asking the server, after what comes with the request has come, as most servers do."""
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    if b"100-continue" not in head.lower():
        while length > 0 and (piece := await reader.read(min(length, PIECE))):
            length -= len(piece)
    writer.write(status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()


def _closing(head: bytes) -> bytes:
    """The head of a request or answer, after which the connection ends."""
    lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith((b"connection:", b"keep-alive:"))]
    return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n"


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST, so that the other side sees an error and no end."""
    with suppress(OSError):
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
