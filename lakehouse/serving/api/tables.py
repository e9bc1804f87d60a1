"""`GET /v1/tables`: what can be read."""

from typing import Any

import msgspec
from litestar import Request, Router, get

from lakehouse.http.problems import error_responses
from lakehouse.pipeline.unified_view import view_names
from lakehouse.serving.api.state import Serving


class Readable(msgspec.Struct):
    """A table or a view."""

    name: str
    """As it is written in SQL, `layer.name`."""
    snapshot: str | None
    """The id of its current snapshot, as text, for it has more digits than a JSON number keeps everywhere; null for a view
    and for a table that never held anything."""


@get("/v1/tables", summary="What can be read", responses=error_responses(401, 403))
async def tables(request: Request[Any, Any, Any], serving: Serving) -> list[Readable]:
    """Every table and view, with the snapshot that a query would read now."""
    serving.access.authorize(request, "query")
    snapshots = serving.snapshot_ids()
    return [
        Readable(name, None if (found := snapshots.get(name)) is None else str(found))
        for name in view_names(serving.snapshot)
    ]


class Newest(msgspec.Struct):
    """The newest events of a stream, which no realtime table holds yet."""

    rows: int
    objects: int
    bytes: int
    left_out: int
    """Landing objects whose rows are not to be seen until realtime takes them: there were too many, or they can't be read
    here."""


@get("/v1/tail", summary="What landed last", responses=error_responses(401, 403))
async def tail(request: Request[Any, Any, Any], serving: Serving) -> dict[str, Newest]:
    """By stream, what the unified views have beyond the tables."""
    serving.access.authorize(request, "query")
    held = serving.tracker.tail_sizes
    return {name: Newest(one.rows, one.objects, one.bytes, one.left_out) for name, one in held.items()}


router = Router("/", route_handlers=[tables, tail], tags=["query"])
