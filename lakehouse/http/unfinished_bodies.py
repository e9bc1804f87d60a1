"""Limit the time and the number of request bodies that have not arrived yet, so that clients that stall cost nothing."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from litestar.types import HTTPScope

from lakehouse.http.problems import Problem

MAX_PER_CLIENT = 1024
CLOSE = {"connection": "close"}


class UnfinishedBodies:
    """The bodies that one process waits for. A client, by its address, that has too many loses the oldest of them."""

    def __init__(self, seconds: float, max_per_client: int = MAX_PER_CLIENT) -> None:
        self._seconds = seconds
        self._max_per_client = max_per_client
        self._by_client: defaultdict[str, dict[asyncio.Timeout, None]] = defaultdict(dict)

    @asynccontextmanager
    async def limit(self, scope: HTTPScope) -> AsyncIterator[None]:
        """Limit a block that receives the body of this request.

        Raises Problem: 408 if it takes too long, and 429 if its client has begun too many others since.
        """
        client = (scope["client"] or ("",))[0]
        waiting = self._by_client[client]
        if len(waiting) >= self._max_per_client:
            _end_oldest(waiting)
        timeout = asyncio.timeout(self._seconds)
        waiting[timeout] = None
        try:
            async with timeout:
                yield
        except TimeoutError:
            raise self._problem(is_oldest=timeout not in waiting) from None
        finally:
            waiting.pop(timeout, None)
            if not waiting and self._by_client.get(client) is waiting:
                del self._by_client[client]

    def _problem(self, *, is_oldest: bool) -> Problem:
        if is_oldest:
            detail = (
                f"{self._max_per_client:,} other requests of this client are unfinished. Finish one before the next."
            )
            return Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, headers={"retry-after": "1"} | CLOSE)
        detail = f"The body did not arrive within {self._seconds:g} s. Send less at a time."
        return Problem(HTTPStatus.REQUEST_TIMEOUT, detail, headers=CLOSE)


def _end_oldest(waiting: dict[asyncio.Timeout, None]) -> None:
    oldest = next(iter(waiting))
    del waiting[oldest]
    if not oldest.expired():
        oldest.reschedule(0)  # a time that has passed
