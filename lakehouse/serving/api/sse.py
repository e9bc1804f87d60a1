"""Server-sent events: a bounded number of streams, kept alive, and ended when the client leaves or its key is revoked."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage
from litestar.types import ASGIApp, Receive, Scope, Send

from lakehouse.http.problems import Problem

KEEP_ALIVE_SECONDS = 15.0
"""Silence after which a comment is sent, so that proxies do not close the connection as idle."""

RETRY_MS = 2_000
MAX_STREAMS = 200
MAX_PER_CLIENT = 100

AuthorizedStreams = Callable[[], list[str]]
"""Return the streams that the request may read now. Raises Problem when its key no longer allows any."""

Messages = AsyncGenerator[ServerSentEventMessage, None]


class EventStreams:
    """All event streams of this process."""

    def __init__(self, max_streams: int = MAX_STREAMS, max_per_client: int = MAX_PER_CLIENT) -> None:
        self._max_streams = max_streams
        self._max_per_client = max_per_client
        self._open: Counter[str] = Counter()
        self._ended = asyncio.Event()

    def end(self) -> None:
        """End all event streams, so that the server can stop. They never end by themselves."""
        self._ended.set()

    def respond(
        self, client: str, messages: Callable[[AuthorizedStreams], Messages], authorized_streams: AuthorizedStreams
    ) -> ServerSentEvent:
        """Respond with `messages(authorized_streams)` as they come, until `authorized_streams` raises a Problem.

        `client` is the id of an API key, empty for programs on this machine. Raises that Problem if the request is not
        authorized to begin with, and Problem 429 if there are too many streams.
        """
        authorized_streams()
        if self._open.total() >= self._max_streams or self._open[client] >= self._max_per_client:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self._open[client]} streams of this client and {self._open.total()} in all follow live events already."
                " Poll with GET instead, or try again later.",
                headers={"retry-after": "30"},
            )
        self._open[client] += 1
        events = self._authorized(messages(authorized_streams), authorized_streams)
        return _EventStream(events, lambda: self._open.subtract([client]))

    async def _authorized(
        self, messages: Messages, authorized_streams: AuthorizedStreams
    ) -> AsyncIterator[ServerSentEventMessage]:
        try:
            async for message in keep_alive(messages, self._ended):
                authorized_streams()
                yield message
        except Problem:
            return


class _EventStream(ServerSentEvent):
    """Server-sent events that call a function when their response has ended, even if it never began."""

    def __init__(self, events: AsyncIterator[ServerSentEventMessage], on_end: Callable[[], None]) -> None:
        super().__init__(events, retry_duration=RETRY_MS)
        self._on_end = on_end

    def to_asgi_response(self, *arguments: Any, **options: Any) -> ASGIApp:  # type: ignore[override]
        """Build the response. Litestar calls it once, as an ASGI application."""
        response = super().to_asgi_response(*arguments, **options)

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await response(scope, receive, send)
            finally:
                self._on_end()

        return respond


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
