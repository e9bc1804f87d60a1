"""Server-sent events: kept alive, ended when the client leaves, and no more of them at once than can be fed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from http import HTTPStatus

from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from lakehouse.http.problems import Problem

KEEP_ALIVE_SECONDS = 15.0
"""After which silence is broken, so that nobody in between takes the connection for dead."""

RETRY_MS = 2_000
CLIENTS = 200


class Live:
    """Those who follow something."""

    def __init__(self, most: int = CLIENTS) -> None:
        self._most = most
        self._clients = 0
        self._ended = asyncio.Event()

    def end(self) -> None:
        """End all feeds, which never end by themselves, so that the server can stop."""
        self._ended.set()

    def answer(
        self, source: AsyncGenerator[ServerSentEventMessage, None], allowed: Callable[[], object]
    ) -> ServerSentEvent:
        """Send what comes from `source` as it comes, until `allowed` raises a Problem: keys are revoked.

        Raises Problem 429 when too many follow already.
        """
        if self._clients >= self._most:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self._most} clients follow this already; ask for what there is with GET instead.",
                headers={"retry-after": "30"},
            )
        return ServerSentEvent(self._counted(source, allowed), retry_duration=RETRY_MS)

    async def _counted(
        self, source: AsyncGenerator[ServerSentEventMessage, None], allowed: Callable[[], object]
    ) -> AsyncIterator[ServerSentEventMessage]:
        self._clients += 1
        try:
            async for message in kept_alive(source, self._ended):
                allowed()
                yield message
        except Problem:
            return
        finally:
            self._clients -= 1


async def kept_alive(
    source: AsyncGenerator[ServerSentEventMessage, None], ended: asyncio.Event, seconds: float = KEEP_ALIVE_SECONDS
) -> AsyncIterator[ServerSentEventMessage]:
    """The messages of `source` until `ended` is set, with a comment whenever there is none for so long."""
    ending = asyncio.ensure_future(ended.wait())
    upcoming = asyncio.ensure_future(anext(source))
    try:
        while True:
            done, _ = await asyncio.wait({upcoming, ending}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if ended.is_set():
                return
            if not done:
                yield ServerSentEventMessage(data=None, comment="still here")
                continue
            try:
                message = upcoming.result()
            except StopAsyncIteration:
                return
            yield message
            upcoming = asyncio.ensure_future(anext(source))
    finally:
        ending.cancel()
        upcoming.cancel()
        with suppress(asyncio.CancelledError, StopAsyncIteration):
            await upcoming
        await source.aclose()
