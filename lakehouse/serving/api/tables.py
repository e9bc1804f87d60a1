"""Routes `/v1/tables` and `/v1/tail`: what can be queried now."""

import msgspec
from litestar import Router, get

from lakehouse.http.problems import error_responses
from lakehouse.serving.api.state import HttpRequest, Serving
from lakehouse.serving.query import linked_tail


class TableInfo(msgspec.Struct):
    """A table or view."""

    name: str
    """The name to use in SQL, `layer.name`."""
    snapshot: str | None
    """The current snapshot id, as text because JSON numbers lose digits; null for views and for empty tables."""


class TailInfo(msgspec.Struct):
    """The hot tail of a stream: rows that no realtime table holds yet."""

    rows: int
    objects: int
    bytes: int
    left_out: int
    """Landing objects whose rows are not visible before the realtime table holds them, because there are too many or they
    cannot be read here."""


@get("/v1/tables", summary="List tables and views", responses=error_responses(401, 403))
async def tables(request: HttpRequest, serving: Serving) -> list[TableInfo]:
    """List every table and view that the key permits, with the snapshot that a query would read now."""
    key = serving.access.authorize(request, "query")
    snapshot = serving.snapshot
    ids = snapshot.snapshot_ids
    return [
        TableInfo(name, None if (snapshot_id := ids.get(name)) is None else str(snapshot_id))
        for name in sorted(serving.readable_views(key, snapshot))
    ]


@get("/v1/tail", summary="Get the size of the hot tail", responses=error_responses(401, 403))
async def tail(request: HttpRequest, serving: Serving) -> dict[str, TailInfo]:
    """Return, by stream that the key permits, what the unified views hold beyond the tables."""
    names = serving.readable_streams(request)
    return {
        name: TailInfo(size.rows, size.objects, size.bytes, size.left_out)
        for name, size in serving.tracker.tail_sizes.items()
        if name in names
    }


@get(linked_tail.PATH, include_in_schema=False)
async def tail_files(request: HttpRequest, serving: Serving) -> dict[str, tuple[str, ...]]:
    """Name the files of the hot tail by stream, for programs of this home. See `linked_tail`."""
    serving.access.authorize(request, "admin")
    return dict(serving.snapshot.tail)


router = Router("/", route_handlers=[tables, tail, tail_files], tags=["query"])
