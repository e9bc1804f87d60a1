"""A client that stalls, stays silent or opens very many connections takes nothing from others."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any, cast

import pytest
from litestar import Litestar, Request, get
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage
from litestar.types import HTTPScope

from lakehouse.http.idle_connections import close_idle_connections
from lakehouse.http.problems import Problem
from lakehouse.http.unfinished_bodies import UnfinishedBodies
from lakehouse.serving.api.sse import EventStreams, Messages


def _scope(address: str | None) -> HTTPScope:
    return cast(HTTPScope, {"client": (address, 1) if address else None})


async def _outcomes(limit: UnfinishedBodies, bodies: Sequence[tuple[str | None, float]]) -> list[int | None]:
    """Return the status of the problem of each body, which is from an address and takes some seconds; None for none."""

    async def receive(address: str | None, seconds: float) -> int | None:
        try:
            async with limit.limit(_scope(address)):
                await asyncio.sleep(seconds)
        except Problem as problem:
            return problem.status_code
        return None

    return await asyncio.gather(*(receive(*body) for body in bodies))


def test_body_that_takes_too_long_ends_with_408() -> None:
    limit = UnfinishedBodies(0.05)
    assert asyncio.run(_outcomes(limit, [("a", 0), ("a", 60), (None, 60)])) == [None, 408, 408]


def test_client_with_too_many_unfinished_bodies_loses_the_oldest() -> None:
    limit = UnfinishedBodies(0.5, max_per_client=2)
    stalled = [("a", 60.0)] * 4
    outcomes = asyncio.run(_outcomes(limit, [*stalled, ("b", 0.1), ("a", 0), ("b", 60)]))
    assert outcomes == [429, 429, 429, 408, None, None, 408]


def test_bodies_are_forgotten_when_they_end() -> None:
    limit = UnfinishedBodies(0.05, max_per_client=2)
    asyncio.run(_outcomes(limit, [("a", 60)] * 5 + [("b", 0)]))
    assert not limit._by_client
    assert asyncio.run(_outcomes(limit, [("a", 0)] * 2)) == [None, None]


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def _open_after(duration: float, silent: int, busy: int, **limits: Any) -> list[bool]:
    """Open connections, silent ones and those that send now and then; return which are open after some time."""

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(100):
            pass
        writer.close()

    server = await asyncio.start_server(read, "127.0.0.1", 0)
    clients = [await _connect(server.sockets[0].getsockname()[1]) for _ in range(silent + busy)]
    closing = asyncio.create_task(close_idle_connections(**limits))
    for _ in range(int(duration / 0.05)):
        await asyncio.sleep(0.05)
        for _, writer in clients[silent:]:
            writer.write(b"x")
    is_open = [not reader.at_eof() for reader, _ in clients]
    closing.cancel()
    for _, writer in clients:
        writer.close()
    server.close()
    await asyncio.sleep(0.1)  # both sides close
    return is_open


@pytest.mark.skipif(sys.platform != "linux", reason="uses Linux's TCP_INFO")
def test_silent_connections_are_closed() -> None:
    assert asyncio.run(_open_after(1.0, silent=3, busy=2, seconds=0.4)) == [False] * 3 + [True] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="uses Linux's TCP_INFO")
def test_client_with_too_many_connections_loses_the_most_silent() -> None:
    is_open = asyncio.run(_open_after(1.0, silent=4, busy=2, seconds=1.5, max_per_client=3))
    assert (sum(is_open), is_open[-2:]) == (3, [True] * 2)


async def _messages(_: Any) -> Messages:
    await asyncio.sleep(60)
    yield ServerSentEventMessage("never")


def _feed(streams: EventStreams) -> Litestar:
    @get("/{client:str}")
    async def live(request: Request[Any, Any, Any]) -> ServerSentEvent:
        return streams.respond(request.path_params["client"], _messages, list)

    return Litestar([live])


async def _follow(app: Litestar, client: str, *, leaves: bool) -> int:
    """Ask for an event stream, and leave at once or never; return the response's status, 0 for none within a moment."""
    path, status, began = f"/{client}", 0, asyncio.Event()
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }

    async def receive() -> Any:
        await asyncio.sleep(0 if leaves else 60)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)
        began.set()

    request = asyncio.create_task(app(scope, receive, send))  # type: ignore[arg-type]
    await began.wait()
    if leaves:
        await request
    return status


def test_event_streams_are_limited_before_they_start() -> None:
    async def statuses() -> list[int]:
        app = _feed(EventStreams(max_streams=3, max_per_client=2))
        return await asyncio.gather(*(_follow(app, client, leaves=False) for client in "aaabc"))

    assert asyncio.run(statuses()) == [200, 200, 429, 200, 429]


def test_event_streams_whose_client_leaves_at_once_free_their_place() -> None:
    async def statuses() -> list[int]:
        app = _feed(EventStreams(max_streams=3, max_per_client=2))
        return [await _follow(app, client, leaves=True) for client in "aaaaabbbbb"]

    assert asyncio.run(statuses()) == [200] * 10
