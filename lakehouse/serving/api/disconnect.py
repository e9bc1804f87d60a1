"""Cancel a request's work when its client disconnects."""

import asyncio
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, TypeVar

from lakehouse.http.problems import Problem
from lakehouse.serving.api.state import HttpRequest

T = TypeVar("T")


async def cancel_on_disconnect(request: HttpRequest, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`, which is cancelled if the client disconnects first.

    Read the request's body before. Raises Problem 408 after a disconnect.
    """
    working = asyncio.ensure_future(work)
    disconnecting = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({working, disconnecting}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
    finally:
        for task in (working, disconnecting):
            task.cancel()
        await asyncio.gather(working, disconnecting, return_exceptions=True)
    raise Problem(HTTPStatus.REQUEST_TIMEOUT, "The client disconnected before the response was ready.")


async def _wait_for_disconnect(request: HttpRequest) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
