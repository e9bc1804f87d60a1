"""Which streams a request names and may read."""

from http import HTTPStatus
from typing import Any

from litestar import Request

from lakehouse.contracts.streams import Stream
from lakehouse.http.problems import Problem
from lakehouse.serving.api.state import Serving

Asked = Request[Any, Any, Any]


def named(serving: Serving, request: Asked, name: str) -> Stream:
    """The stream of that name. Raises Problem 401 or 403 where the request may not read it, 404 with those there are."""
    serving.access.authorize(request, "query", name)
    streams = serving.snapshot.streams
    if name not in streams:
        names = readable(serving, request)
        raise Problem(
            HTTPStatus.NOT_FOUND, f"There is no stream {name!r}; there are {', '.join(names)}.", streams=names
        )
    return streams[name]


def readable(serving: Serving, request: Asked) -> list[str]:
    """The streams that the request may read. Raises Problem 401 or 403 where it may read nothing."""
    serving.access.authorize(request, "query")
    key = serving.access.authenticate(request)
    return [name for name in sorted(serving.snapshot.streams) if key is None or key.allows("query", name)]
