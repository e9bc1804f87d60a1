"""Server-sent events: a bounded number of streams, kept alive, and ended when the client leaves or its key is revoked."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from http import HTTPStatus

from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from lakehouse.http.problems import Problem

KEEP_ALIVE_SECONDS = 15.0
"""Silence after which a comment is sent, so that proxies do not close the connection as idle."""

RETRY_MS = 2_000
MAX_CLIENTS = 200

AuthorizedStreams = Callable[[], list[str]]
"""Return the streams that the request may read now. Raises Problem when its key no longer allows any."""

Messages = AsyncGenerator[ServerSentEventMessage, None]


class EventStreams:
    """All event streams of this process."""

    def __init__(self, max_clients: int = MAX_CLIENTS) -> None:
        self._max_clients = max_clients
        self._clients = 0
        self._ended = asyncio.Event()

    def end(self) -> None:
        """End all event streams, so that the server can stop. They never end by themselves."""
        self._ended.set()

    def respond(
        self, messages: Callable[[AuthorizedStreams], Messages], authorized_streams: AuthorizedStreams
    ) -> ServerSentEvent:
        """Respond with `messages(authorized_streams)` as they come, until `authorized_streams` raises a Problem.

        Raises that Problem if the request is not authorized to begin with, and Problem 429 if there are too many clients.
        """
        authorized_streams()
        if self._clients >= self._max_clients:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self._max_clients} clients already follow live events. Poll with GET instead, or try again later.",
                headers={"retry-after": "30"},
            )
        return ServerSentEvent(self._counted(messages(authorized_streams), authorized_streams), retry_duration=RETRY_MS)

    async def _counted(
        self, messages: Messages, authorized_streams: AuthorizedStreams
    ) -> AsyncIterator[ServerSentEventMessage]:
        self._clients += 1
        try:
            async for message in keep_alive(messages, self._ended):
                authorized_streams()
                yield message
        except Problem:
            return
        finally:
            self._clients -= 1


async def keep_alive(
    messages: Messages, ended: asyncio.Event, seconds: float = KEEP_ALIVE_SECONDS
) -> AsyncIterator[ServerSentEventMessage]:
    """Yield `messages` until `ended` is set, and a comment after each `seconds` of silence. Closes `messages`."""
    ending = asyncio.ensure_future(ended.wait())
    upcoming = asyncio.ensure_future(anext(messages))
    try:
        while True:
            done, _ = await asyncio.wait({upcoming, ending}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if ended.is_set():
                return
            if not done:
                yield ServerSentEventMessage(data=None, comment="keep-alive")
                continue
            try:
                message = upcoming.result()
            except StopAsyncIteration:
                return
            yield message
            upcoming = asyncio.ensure_future(anext(messages))
    finally:
        ending.cancel()
        upcoming.cancel()
        with suppress(asyncio.CancelledError, StopAsyncIteration):
            await upcoming
        await messages.aclose()
